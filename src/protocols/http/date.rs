//! HTTP's dates (RFC 9110 §5.6.7): always GMT, always English.
use std::cell::Cell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(super) type Date = [u8; 29];

const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];
const DAY: u64 = 86_400;
/// The last second of the year 9999: the form has no place for more digits.
const LAST: u64 = 253_402_300_799;

thread_local! {
    /// Written once a second at most, whatever the number of answers.
    static LATEST: Cell<(u64, Date)> = Cell::new((0, written(0)));
}

/// This time, for a `Date` header.
pub(super) fn date(time: SystemTime) -> Date {
    let now = seconds(time);
    LATEST
        .try_with(|latest| {
            let (at, date) = latest.get();
            if at == now {
                return date;
            }
            let date = written(now);
            latest.set((now, date));
            date
        })
        .unwrap_or_else(|_| written(now))
}

/// Whole seconds since 1970, as HTTP counts time.
pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

pub(super) fn written(seconds: u64) -> Date {
    let seconds = seconds.min(LAST);
    let (days, second) = (seconds / DAY, seconds % DAY);
    let (year, month, day) = civil(days);
    let mut date = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    date[..3].copy_from_slice(DAYS[(days % 7) as usize]);
    two(&mut date[5..7], day);
    date[8..11].copy_from_slice(MONTHS[month as usize - 1]);
    two(&mut date[12..14], year / 100);
    two(&mut date[14..16], year % 100);
    two(&mut date[17..19], second / 3600);
    two(&mut date[20..22], second / 60 % 60);
    two(&mut date[23..25], second % 60);
    date
}

/// What a client sent as a date; anything but the preferred form counts as none.
pub(super) fn read(text: &str) -> Option<u64> {
    let date: &Date = text.as_bytes().try_into().ok()?;
    let number = |from: usize, to: usize| -> Option<u64> {
        let digits = &date[from..to];
        let all = digits.iter().all(u8::is_ascii_digit);
        all.then(|| digits.iter().fold(0, |n, &digit| 10 * n + u64::from(digit - b'0')))
    };
    let month = 1 + MONTHS.iter().position(|month| date[8..11] == month[..])? as u64;
    let days = days_from_civil(number(12, 16)?, month, number(5, 7)?)?;
    let (hour, minute, second) = (number(17, 19)?, number(20, 22)?, number(23, 25)?);
    let seconds = days * DAY + hour * 3600 + minute * 60 + second;
    // Whatever is wrong in it (the day of the week, a 31st of February) does not come back.
    (written(seconds) == *date).then_some(seconds)
}

fn two(place: &mut [u8], number: u64) {
    place[0] = b'0' + (number / 10) as u8;
    place[1] = b'0' + (number % 10) as u8;
}

/// Year, month and day of so many days after 1970, by counting in eras of 400 years that begin in
/// March, so that the leap day is a year's last.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

fn days_from_civil(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day.checked_sub(1)?;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_and_read_as_the_rfc_shows_them() {
        for (seconds, text) in [
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
            (LAST, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(written(seconds), *text.as_bytes());
            assert_eq!(read(text), Some(seconds), "{text}");
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(date(time), *text.as_bytes());
        }
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "now",
            "Mon, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 25:49:37 GMT",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 00 Jan 0000 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_date_beyond_the_form_is_its_last() {
        assert_eq!(written(u64::MAX), written(LAST));
    }
}

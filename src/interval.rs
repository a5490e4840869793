//! Lengths of time as Workerman writes them: seconds as a number, or a [`Duration`].
use std::time::Duration;

/// A length of time: seconds as PHP writes them, or a [`Duration`].
///
/// Nothing panics. What is too large means "never". A negative number or NaN arms no timer (an
/// error line says so) and counts as 0 everywhere else.
///
/// ```
/// use std::time::Duration;
/// use workerman::Interval;
///
/// assert_eq!(Interval::from(2.5), Interval::from(Duration::from_millis(2500)));
/// assert_eq!(Interval::from(-1).duration(), Duration::ZERO);
/// assert!(Interval::from(f64::INFINITY).is_never());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval {
    /// `None`: negative or NaN.
    length: Option<Duration>,
}

impl Interval {
    /// Longer than any program runs.
    pub const NEVER: Interval = Interval { length: Some(Duration::MAX) };

    /// The length; 0 for a negative number and NaN.
    pub fn duration(self) -> Duration {
        self.length.unwrap_or_default()
    }

    /// Whether it is too long ever to pass.
    pub fn is_never(self) -> bool {
        self.length == Some(Duration::MAX)
    }

    /// `None` for a negative number and NaN.
    pub(crate) fn checked(self) -> Option<Duration> {
        self.length
    }
}

impl From<Duration> for Interval {
    fn from(length: Duration) -> Self {
        Interval { length: Some(length) }
    }
}

macro_rules! from_whole_seconds {
    ($($ty:ty)*) => {$(
        impl From<$ty> for Interval {
            fn from(seconds: $ty) -> Self {
                Interval { length: u64::try_from(seconds).ok().map(Duration::from_secs) }
            }
        }
    )*};
}
from_whole_seconds! { i32 i64 u8 u16 u32 u64 usize }

impl From<f64> for Interval {
    fn from(seconds: f64) -> Self {
        if seconds.is_nan() || seconds < 0.0 {
            return Interval { length: None };
        }
        Interval { length: Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)) }
    }
}

impl From<f32> for Interval {
    fn from(seconds: f32) -> Self {
        f64::from(seconds).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_of_every_number_type_are_the_same_length() {
        let two = Interval::from(Duration::from_secs(2));
        for same in
            [2i32.into(), 2i64.into(), 2u8.into(), 2u64.into(), 2usize.into(), 2.0f32.into()]
        {
            assert_eq!(two, same);
        }
    }

    #[test]
    fn negative_and_nan_are_told_apart_from_zero() {
        for bad in [Interval::from(-1), Interval::from(-0.5), Interval::from(f64::NAN)] {
            assert_eq!(bad.checked(), None);
            assert_eq!(bad.duration(), Duration::ZERO);
        }
        assert_eq!(Interval::from(0).checked(), Some(Duration::ZERO));
    }

    #[test]
    fn too_large_is_never() {
        assert!(Interval::from(1e300).is_never());
        assert!(Interval::from(f64::INFINITY).is_never());
        assert!(Interval::NEVER.is_never());
        assert!(!Interval::from(1e9).is_never());
    }
}

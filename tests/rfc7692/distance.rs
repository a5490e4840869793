//! How far back a stream of DEFLATE refers (RFC 1951), which the zlib at hand does not judge: its
//! window is never smaller than 32 KiB.

/// Bits of a stream, the lowest of an octet first.
struct Bits<'a> {
    octets: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: u32) -> Result<usize, String> {
        let mut taken = 0;
        for place in 0..count {
            let octet = self.octets.get(self.at / 8).ok_or("the stream ends inside a block")?;
            taken |= usize::from(octet >> (self.at % 8) & 1) << place;
            self.at += 1;
        }
        Ok(taken)
    }

    fn align(&mut self) {
        self.at = self.at.next_multiple_of(8);
    }

    fn is_empty(&self) -> bool {
        self.at / 8 >= self.octets.len()
    }
}

/// A code of Huffman's by its lengths (RFC 1951 §3.2.2): how many of each, and their symbols.
struct Code {
    counts: [usize; 16],
    symbols: Vec<usize>,
}

impl Code {
    fn new(lengths: &[usize]) -> Self {
        let mut counts = [0; 16];
        lengths.iter().for_each(|length| counts[*length] += 1);
        counts[0] = 0;
        let mut symbols: Vec<usize> = (0..lengths.len()).filter(|at| lengths[*at] > 0).collect();
        symbols.sort_by_key(|symbol| lengths[*symbol]);
        Code { counts, symbols }
    }

    fn read(&self, bits: &mut Bits) -> Result<usize, String> {
        let (mut code, mut first, mut index) = (0, 0, 0);
        for count in &self.counts[1..] {
            code |= bits.take(1)?;
            if code < first + count {
                return Ok(self.symbols[index + code - first]);
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        Err("a code that stands for nothing".into())
    }
}

/// The longest distance in these blocks, to the end of the octets.
pub(crate) fn farthest(octets: &[u8]) -> Result<usize, String> {
    let mut bits = Bits { octets, at: 0 };
    let mut most = 0;
    while !bits.is_empty() {
        let is_last = bits.take(1)? == 1;
        let of_block = match bits.take(2)? {
            0 => stored(&mut bits)?,
            1 => {
                let lengths = |at| match at {
                    0..144 | 280.. => 8,
                    144..256 => 9,
                    256..280 => 7,
                };
                let literals = Code::new(&(0..288usize).map(lengths).collect::<Vec<_>>());
                compressed(&mut bits, &literals, &Code::new(&[5; 30]))?
            }
            2 => dynamic(&mut bits)?,
            _ => return Err("a block of type 3".into()),
        };
        most = most.max(of_block);
        if is_last {
            bits.align();
        }
    }
    Ok(most)
}

fn stored(bits: &mut Bits) -> Result<usize, String> {
    bits.align();
    let length = bits.take(16)?;
    if bits.take(16)? != !length & 0xffff {
        return Err("a stored block with a wrong length".into());
    }
    bits.at += 8 * length;
    Ok(0)
}

fn dynamic(bits: &mut Bits) -> Result<usize, String> {
    const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
    let (literals, distances) = (bits.take(5)? + 257, bits.take(5)? + 1);
    let mut of_codes = [0; 19];
    for place in &ORDER[..bits.take(4)? + 4] {
        of_codes[*place] = bits.take(3)?;
    }
    let code = Code::new(&of_codes);
    let mut lengths: Vec<usize> = Vec::new();
    while lengths.len() < literals + distances {
        let (length, times) = match code.read(bits)? {
            16 => (*lengths.last().ok_or("nothing to repeat")?, 3 + bits.take(2)?),
            17 => (0, 3 + bits.take(3)?),
            18 => (0, 11 + bits.take(7)?),
            length => (length, 1),
        };
        lengths.extend(std::iter::repeat_n(length, times));
    }
    let (literals, distances) = lengths.split_at(literals);
    compressed(bits, &Code::new(literals), &Code::new(distances))
}

fn compressed(bits: &mut Bits, literals: &Code, distances: &Code) -> Result<usize, String> {
    let mut most = 0;
    loop {
        // Of a length only the extra bits matter here (RFC 1951 §3.2.5).
        let extra = match literals.read(bits)? {
            0..256 => continue,
            256 => return Ok(most),
            257..265 | 285 => 0,
            symbol => (symbol as u32 - 261) / 4,
        };
        bits.take(extra)?;
        let symbol = distances.read(bits)?;
        let distance = match symbol {
            0..4 => symbol + 1,
            _ => {
                let extra = symbol as u32 / 2 - 1;
                ((2 + symbol % 2) << extra) + 1 + bits.take(extra)?
            }
        };
        most = most.max(distance);
    }
}

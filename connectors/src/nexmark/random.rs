//! Random numbers that are a function of where they are used: of the seed, the event's number and the draw's number. Nothing is drawn
//! in sequence from one event to the next, so any event can be made without those before it.

/// The draws of one event, of one column.
pub(super) struct Draws(u64);

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): every output bit depends on every input bit.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

impl Draws {
    /// The draws of a column of an event.
    pub(super) fn of(seed: u64, event: u64, column: u64) -> Self {
        Self(mix(seed ^ mix(event.wrapping_add(column.wrapping_mul(0xD6E8_FEB8_6659_FD93)))))
    }

    /// 64 random bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// A number below `bound`, which is not zero. The bias, below `bound` / 2^64, does not matter here.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// Uniform in [0, 1).
    pub(super) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Appends so many letters from a to z.
    pub(super) fn letters(&mut self, count: usize, out: &mut Vec<u8>) {
        let end = out.len() + count;
        while out.len() < end {
            let letters = self.bits().to_le_bytes().map(|byte| b'a' + ((u16::from(byte) * 26) >> 8) as u8);
            out.extend_from_slice(&letters[..letters.len().min(end - out.len())]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_a_function_of_their_place() {
        let draw = |seed, event, column| Draws::of(seed, event, column).bits();
        assert_eq!(draw(1, 2, 3), draw(1, 2, 3));
        assert!(draw(1, 2, 3) != draw(2, 2, 3) && draw(1, 2, 3) != draw(1, 3, 3) && draw(1, 2, 3) != draw(1, 2, 4));
    }

    #[test]
    fn numbers_are_spread_evenly() {
        let mut counts = [0u32; 10];
        for event in 0..100_000 {
            counts[Draws::of(7, event, 0).below(10) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }
}

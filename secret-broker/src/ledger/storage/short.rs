//! Texts in fewer bits, for what a table is sorted by.
//!
//! Each byte has a code of its own: four or five bits for what identifiers and numbers are made of, ten to eighteen for the rest. The
//! codes are in the order of the bytes and none begins with another. So it promises, of whatever texts: packed they sort as they
//! are, and each is that of one text only.

use std::sync::LazyLock;

/// Of each byte, its code and how many bits it has.
static CODES: LazyLock<[(u64, u32); 256]> = LazyLock::new(|| {
    let mut byte = 0_u8;
    std::array::from_fn(|_| {
        let code = code(byte);
        byte = byte.wrapping_add(1);
        code
    })
});

/// Begin the codes of bytes before `/`, of those between the digits and `a`, and of those after `f`.
const LOW: u64 = 0;
const SLASH: u64 = 1;
const MIDDLE: u64 = 22;
const HIGH: u64 = 31;
/// After `HIGH` the codes of bytes after `z`.
const HIGHEST: u64 = 20;

/// How many bits are looked at together.
const TOGETHER: u32 = 12;

/// The bytes with short codes that some bits begin with.
#[derive(Clone, Copy, Default)]
struct Several {
    bytes: [u8; 3],
    count: usize,
    /// Of all their codes.
    bits: u32,
}

/// By what the bits are as a number.
static SEVERAL: LazyLock<Vec<Several>> = LazyLock::new(|| {
    let short = |seen: u64, held: u32| {
        let is_next = |byte: &u8| {
            let (code, length) = code(*byte);
            length <= 5 && length <= held && seen.wrapping_shr(held.wrapping_sub(length)) == code
        };
        (0..=u8::MAX).find(is_next)
    };
    let several = |seen: u64| {
        let mut several = Several::default();
        for place in 0..3 {
            let held = TOGETHER.wrapping_sub(several.bits);
            let rest = seen & 1_u64.wrapping_shl(held).wrapping_sub(1);
            let (Some(byte), Some(room)) = (short(rest, held), several.bytes.get_mut(place)) else {
                break;
            };
            *room = byte;
            several.count = place.wrapping_add(1);
            several.bits = several.bits.wrapping_add(code(byte).1);
        }
        several
    };
    (0..1 << TOGETHER).map(several).collect()
});

/// In the order of the bytes. What looks odd is the order of prefixes: a code of four bits is two of five.
fn code(byte: u8) -> (u64, u32) {
    let after = |first: u8| u64::from(byte.wrapping_sub(first));
    match byte {
        // From 1 on: a code that is zeros alone would look like the end.
        0..=b'.' => (LOW << 6 | after(0).wrapping_add(1), 11),
        b'/' => (SLASH, 5),
        b'0'..=b'9' => (after(b'0').wrapping_add(1), 4),
        b':'..=b'`' => (MIDDLE << 6 | after(b':'), 11),
        b'a' => (23, 5),
        b'b' => (12, 4),
        b'c' => (13, 4),
        b'd'..=b'f' => (after(b'd').wrapping_add(28), 5),
        b'g'..=b'z' => (HIGH << 5 | after(b'g'), 10),
        b'{'.. => ((HIGH << 5 | HIGHEST) << 8 | after(b'{'), 18),
    }
}

/// A text in fewer bits.
pub(super) fn pack(text: &str) -> Vec<u8> {
    let codes = &*CODES;
    let mut packed = Vec::with_capacity(text.len());
    let (mut bits, mut held) = (0_u64, 0_u32);
    for byte in text.bytes() {
        let (code, length) = codes.get(usize::from(byte)).copied().unwrap_or_default();
        bits = bits.wrapping_shl(length) | code;
        held = held.wrapping_add(length);
        while held >= 8 {
            held = held.wrapping_sub(8);
            packed.push(last_byte(bits.wrapping_shr(held)));
        }
    }
    if held > 0 {
        packed.push(last_byte(bits.wrapping_shl(8_u32.wrapping_sub(held))));
    }
    packed
}

fn last_byte(bits: u64) -> u8 {
    let [.., last] = bits.to_be_bytes();
    last
}

/// The text of packed bytes; none where they are those of none.
pub(super) fn unpacked(packed: &[u8]) -> Option<String> {
    let mut bits = Bits {
        rest: packed,
        window: 0,
        held: 0,
    };
    let table = SEVERAL.as_slice();
    let mut text = Vec::with_capacity(packed.len().saturating_mul(2).saturating_add(3));
    while !bits.are_at_their_end() {
        match bits.several(table) {
            Some(several) => {
                let end = text.len().saturating_add(several.count);
                text.extend_from_slice(&several.bytes);
                text.truncate(end);
            }
            None => text.push(bits.byte()?),
        }
    }
    String::from_utf8(text).ok()
}

struct Bits<'p> {
    rest: &'p [u8],
    window: u64,
    /// So many of its last bits come next.
    held: u32,
}

impl Bits<'_> {
    /// What fills the last byte is zeros.
    fn are_at_their_end(&self) -> bool {
        self.rest.is_empty() && self.held < 8 && self.seen(self.held) == 0
    }

    fn seen(&self, count: u32) -> u64 {
        let mask = 1_u64.wrapping_shl(count).wrapping_sub(1);
        self.window.wrapping_shr(self.held.wrapping_sub(count)) & mask
    }

    fn take(&mut self, count: u32) -> Option<u64> {
        while self.held < count {
            let (first, rest) = self.rest.split_first()?;
            self.rest = rest;
            self.window = self.window.wrapping_shl(8) | u64::from(*first);
            self.held = self.held.wrapping_add(8);
        }
        let taken = self.seen(count);
        self.held = self.held.wrapping_sub(count);
        Some(taken)
    }

    /// Takes the next bytes, if the codes of one or more are short ones.
    fn several<'t>(&mut self, table: &'t [Several]) -> Option<&'t Several> {
        while self.held <= 56
            && let Some((first, rest)) = self.rest.split_first()
        {
            self.rest = rest;
            self.window = self.window.wrapping_shl(8) | u64::from(*first);
            self.held = self.held.wrapping_add(8);
        }
        self.held.checked_sub(TOGETHER)?;
        let several = table.get(usize::try_from(self.seen(TOGETHER)).ok()?)?;
        self.held = self.held.wrapping_sub(several.bits);
        (several.count > 0).then_some(several)
    }

    fn byte(&mut self) -> Option<u8> {
        let four = self.take(4)?;
        let from = |first: u8, last: u8, offset: u64| {
            let byte = u64::from(first).checked_add(offset)?;
            u8::try_from(byte).ok().filter(|byte| *byte <= last)
        };
        match four {
            1..=10 => return from(b'0', b'9', four.wrapping_sub(1)),
            12 => return Some(b'b'),
            13 => return Some(b'c'),
            _ => {}
        }
        match four << 1 | self.take(1)? {
            LOW => from(0, b'.', self.take(6)?.checked_sub(1)?),
            SLASH => Some(b'/'),
            MIDDLE => from(b':', b'`', self.take(6)?),
            23 => Some(b'a'),
            HIGH => match self.take(5)? {
                HIGHEST => from(b'{', u8::MAX, self.take(8)?),
                letter => from(b'g', b'z', letter),
            },
            letter => from(b'd', b'f', letter.checked_sub(28)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_byte_is_packed_and_unpacked_and_the_codes_sort_as_the_bytes() {
        let codes: Vec<_> = (0..=u8::MAX)
            .map(|byte| {
                let (code, length) = code(byte);
                (format!("{code:032b}")[32 - length as usize..].to_owned(), byte)
            })
            .collect();
        for (one, two) in codes.iter().zip(&codes[1..]) {
            assert!(one.0 < two.0, "{one:?} {two:?}");
            assert!(!two.0.starts_with(&one.0), "{one:?} {two:?}");
        }
        for text in (0..=0x7f_u8).map(|byte| String::from(char::from(byte))) {
            assert_eq!(unpacked(&pack(&text)).as_ref(), Some(&text));
        }
    }

    #[test]
    fn identifiers_and_numbers_take_about_half() {
        let id = "0123456789abcdef".repeat(4);
        assert_eq!(pack(&id).len(), 34);
        assert_eq!(pack(&"1".repeat(20)).len(), 10);
        assert_eq!(pack(""), b"");
    }

    proptest! {
        #[test]
        fn whatever_is_packed_is_unpacked_and_sorts_as_it_was(one in ".{0,12}", two in ".{0,12}", hex in "[/0-9a-f]{0,12}") {
            for text in [&one, &two, &hex] {
                let packed = unpacked(&pack(text));
                prop_assert_eq!(packed.as_ref(), Some(text));
            }
            let longer = format!("{one}{two}");
            for (one, two) in [(&one, &two), (&one, &hex), (&one, &longer), (&hex, &two)] {
                prop_assert_eq!(pack(one).cmp(&pack(two)), one.cmp(two));
            }
        }

        #[test]
        fn what_unpacks_is_what_its_text_is_packed_to(bytes in prop::collection::vec(any::<u8>(), 0..6)) {
            if let Some(text) = unpacked(&bytes) {
                prop_assert_eq!(pack(&text), bytes);
            }
        }
    }
}

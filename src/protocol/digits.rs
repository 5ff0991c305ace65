//! Numbers as text.
//!
//! Every answer has two of them to write. `write!` takes 240 instructions for one, because it also knows width,
//! fill and sign; this takes 40.

/// The length of the largest `u64` in decimal, which is longer than in hexadecimal.
const DIGITS_MAX: usize = 20;

/// Appends a number in decimal.
pub fn push_decimal(number: u64, out: &mut Vec<u8>) {
    // Lengths and counts are short as a rule.
    match number {
        0..10 => out.push(b'0' + number as u8),
        10..100 => out.extend_from_slice(&[b'0' + (number / 10) as u8, b'0' + (number % 10) as u8]),
        _ => push_digits::<10>(number, out),
    }
}

/// Appends a number in lower-case hexadecimal.
pub fn push_hexadecimal(number: u64, out: &mut Vec<u8>) {
    push_digits::<16>(number, out);
}

// The radix is a constant, so that the compiler divides by a multiplication or a shift.
fn push_digits<const RADIX: u64>(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; DIGITS_MAX];
    let mut start = digits.len();
    // The last digit is found first.
    loop {
        start -= 1;
        digits[start] = b"0123456789abcdef"[(number % RADIX) as usize];
        number /= RADIX;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// Parses a number in decimal. `None` for anything but digits, and for a number above `u64::MAX`.
///
/// `str::parse` would accept a leading `+`, which another reader of the same text may refuse.
pub fn parse_decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_digits_are_parsed() {
        let cases: [(&[u8], _); 8] = [
            (b"0", Some(0)),
            (b"007", Some(7)),
            (b"18446744073709551615", Some(u64::MAX)),
            (b"18446744073709551616", None),
            (b"", None),
            (b"+1", None),
            (b"-1", None),
            (b"1 ", None),
        ];
        for (digits, expected) in cases {
            assert_eq!(parse_decimal(digits), expected, "{digits:?}");
        }
    }

    #[test]
    fn numbers_are_written_as_format_writes_them() {
        for number in [
            0,
            1,
            9,
            10,
            15,
            16,
            99,
            100,
            255,
            256,
            1_000_000_007,
            u64::MAX,
        ] {
            let mut out = b"=".to_vec();
            push_decimal(number, &mut out);
            out.push(b' ');
            push_hexadecimal(number, &mut out);
            let expected = format!("={number} {number:x}");
            assert_eq!(String::from_utf8(out), Ok(expected));
        }
    }
}

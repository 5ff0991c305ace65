//! The hash slots of a Redis Cluster.
//!
//! Pure. Source: the Redis Cluster specification, "Key distribution model" and "Hash tags".

/// The slots of a cluster.
const SLOT_COUNT: u16 = 16_384;

/// CRC16 (XMODEM) of each byte.
const TABLE: [u16; 256] = table();

const fn table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = match crc & 0x8000 {
                0 => crc << 1,
                _ => (crc << 1) ^ 0x1021,
            };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

/// The slot of a key or a sharded channel: CRC16 of its hash tag, or of all of it where there is none, modulo 16384.
pub(crate) fn slot_of(key: &[u8]) -> u16 {
    let crc = hash_tag(key).iter().fold(0_u16, |crc, byte| {
        (crc << 8) ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)]
    });
    crc % SLOT_COUNT
}

/// The bytes between the first `{` and the first `}` behind it, where there are any.
fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|byte| *byte == b'{') else {
        return key;
    };
    let rest = &key[open + 1..];
    match rest.iter().position(|byte| *byte == b'}') {
        None | Some(0) => key,
        Some(close) => &rest[..close],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        let cases: [(&str, u16); 6] = [
            ("123456789", 12739),
            ("", 0),
            ("foo", 12182),
            ("bar", 5061),
            ("{waterwheel:0}:head", slot_of(b"waterwheel:0")),
            ("foo{hash_tag}", slot_of(b"hash_tag")),
        ];
        for (key, expected) in cases {
            assert_eq!(slot_of(key.as_bytes()), expected, "{key}");
        }
    }

    #[test]
    fn the_hash_tag_is_between_the_first_braces() {
        let cases = [
            ("{user1000}.following", "user1000"),
            ("foo{}{bar}", "foo{}{bar}"),
            ("foo{{bar}}zap", "{bar"),
            ("foo{bar}{zap}", "bar"),
            ("foo{bar", "foo{bar"),
            ("foo}bar{", "foo}bar{"),
            ("}{a}", "a"),
            ("", ""),
        ];
        for (key, expected) in cases {
            assert_eq!(hash_tag(key.as_bytes()), expected.as_bytes(), "{key}");
        }
    }
}

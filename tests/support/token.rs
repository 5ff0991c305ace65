//! JSON Web Tokens for tests, which share no code with the hub but the digest.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let letters = bytes.chunks(3).flat_map(|chunk| {
        let bits = chunk
            .iter()
            .fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        let letter = move |index| ALPHABET[(bits >> (18 - 6 * index)) as usize & 63] as char;
        (0..=chunk.len()).map(letter)
    });
    letters.collect()
}

/// A token of these claims, in JSON, signed by HS256.
pub fn sign(claims: &str, secret: &str) -> String {
    let header = base64url(br#"{"alg":"HS256","typ":"JWT"}"#);
    let signed = format!("{header}.{}", base64url(claims.as_bytes()));
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    let signature = mac.chain_update(&signed).finalize().into_bytes();
    format!("{signed}.{}", base64url(&signature))
}

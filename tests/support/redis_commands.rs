//! The commands that a hub writes to a Redis of a test's own.

use waterwheel::protocol::resp::ReplyDecoder;

/// The words of each command. The hub writes whole commands, and the simulation cuts nothing.
pub fn commands(bytes: &[u8]) -> Vec<Vec<String>> {
    let (mut rest, mut decoder) = (bytes, ReplyDecoder::new(1024 * 1024));
    let mut commands = Vec::new();
    while let Ok(Some(command)) = decoder.next_reply(&mut rest) {
        let words = command.as_array().unwrap().iter();
        let text = |word: &[u8]| String::from_utf8_lossy(word).into_owned();
        commands.push(words.map(|word| text(word.as_bytes().unwrap())).collect());
    }
    assert!(rest.is_empty());
    commands
}

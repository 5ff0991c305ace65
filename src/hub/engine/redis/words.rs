//! The words of a command, in one buffer.
//!
//! A publication has about twenty words, most of them short. With an allocation for each they took a third of the
//! processor time of a publication.

/// Words that are appended one by one.
#[derive(Debug, Default)]
pub(super) struct Words {
    bytes: Vec<u8>,
    /// The end of each word in `bytes`.
    ends: Vec<usize>,
}

impl Words {
    /// Room for so many words with so many bytes together. Both may be exceeded.
    pub(super) fn with_capacity(words: usize, bytes: usize) -> Words {
        Words {
            bytes: Vec::with_capacity(bytes),
            ends: Vec::with_capacity(words),
        }
    }

    /// Appends a word.
    pub(super) fn add(&mut self, word: impl AsRef<[u8]>) {
        self.add_with(|bytes| bytes.extend_from_slice(word.as_ref()));
    }

    /// Appends a word that `write` appends to the bytes.
    pub(super) fn add_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// The words, in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let word = &self.bytes[start..end];
            start = end;
            word
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_in_their_order() {
        let mut words = Words::with_capacity(1, 1);
        words.add("one");
        words.add("");
        words.add_with(|bytes| bytes.extend_from_slice(b"two words"));
        let read: Vec<&[u8]> = words.iter().collect();
        assert_eq!(read, [&b"one"[..], b"", b"two words"]);
        assert_eq!(Words::default().iter().count(), 0);
    }
}

//! The buffers that all TLS streams of one reactor share.

use std::cell::Cell;

/// The ciphertext that is read at once, and about the plaintext that is encrypted before it is
/// offered to the socket, in bytes.
pub(super) const SCRATCH_BYTES: usize = 64 * 1024;

/// Buffers for the records on their way in and out. A stream takes one out while it needs it and
/// puts it back, so that nothing is borrowed meanwhile. The first use allocates.
#[derive(Default)]
pub(crate) struct Scratch {
    incoming: Cell<Vec<u8>>,
    outgoing: Cell<Vec<u8>>,
    joined: Cell<Vec<u8>>,
}

impl Scratch {
    /// The buffer for ciphertext that is read; at least [`SCRATCH_BYTES`] long.
    pub(super) fn take_incoming(&self) -> Vec<u8> {
        let mut buffer = self.incoming.take();
        if buffer.len() < SCRATCH_BYTES {
            buffer.resize(SCRATCH_BYTES, 0);
        }
        buffer
    }

    pub(super) fn put_back_incoming(&self, mut buffer: Vec<u8>) {
        // A handshake with a long chain of certificates may have made it longer.
        if SCRATCH_BYTES < buffer.len() {
            buffer.truncate(SCRATCH_BYTES);
            buffer.shrink_to_fit();
        }
        self.incoming.set(buffer);
    }

    /// The buffer for ciphertext that is to be written. Its length says nothing about its contents.
    pub(super) fn take_outgoing(&self) -> Vec<u8> {
        self.outgoing.take()
    }

    pub(super) fn put_back_outgoing(&self, mut buffer: Vec<u8>) {
        // A handshake with a long chain of certificates may have made it longer.
        if 2 * SCRATCH_BYTES < buffer.len() {
            buffer.truncate(SCRATCH_BYTES);
            buffer.shrink_to_fit();
        }
        self.outgoing.set(buffer);
    }

    /// The buffer in which short slices become one record. Empty.
    pub(super) fn take_joined(&self) -> Vec<u8> {
        self.joined.take()
    }

    pub(super) fn put_back_joined(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.joined.set(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_became_long_is_given_back_short() {
        let scratch = Scratch::default();
        let mut incoming = scratch.take_incoming();
        assert_eq!(incoming.len(), SCRATCH_BYTES);
        incoming.resize(3 * SCRATCH_BYTES, 0);
        scratch.put_back_incoming(incoming);
        assert!(scratch.take_incoming().capacity() < 2 * SCRATCH_BYTES);
        scratch.put_back_outgoing(vec![0; 3 * SCRATCH_BYTES]);
        assert!(scratch.take_outgoing().capacity() < 2 * SCRATCH_BYTES);
    }
}

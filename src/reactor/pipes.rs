//! Pipes: which raw streams send what they receive to which others. Data only; `pipe` moves the bytes.

use std::collections::HashMap;

use super::id::ConnId;

/// For each source its sink, and for each sink its sources. Most streams are neither.
#[derive(Default)]
pub(super) struct Pipes {
    sinks: HashMap<ConnId, ConnId>,
    sources: HashMap<ConnId, Vec<ConnId>>,
}

impl Pipes {
    /// Adds a pipe. The source must have none.
    pub(super) fn insert(&mut self, source: ConnId, sink: ConnId) {
        self.sinks.insert(source, sink);
        self.sources.entry(sink).or_default().push(source);
    }

    /// Removes the pipe of a source, and returns its sink.
    pub(super) fn remove(&mut self, source: ConnId) -> Option<ConnId> {
        let sink = self.sinks.remove(&source)?;
        if let Some(sources) = self.sources.get_mut(&sink) {
            sources.retain(|other| *other != source);
            if sources.is_empty() {
                self.sources.remove(&sink);
            }
        }
        Some(sink)
    }

    #[inline]
    pub(super) fn sink_of(&self, source: ConnId) -> Option<ConnId> {
        match self.sinks.is_empty() {
            true => None,
            false => self.sinks.get(&source).copied(),
        }
    }

    pub(super) fn sources_of(&self, sink: ConnId) -> Vec<ConnId> {
        match self.sources.is_empty() {
            true => Vec::new(),
            false => self.sources.get(&sink).cloned().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u32) -> ConnId {
        ConnId {
            index,
            generation: 1,
        }
    }

    #[test]
    fn a_pipe_that_is_removed_leaves_nothing() {
        let mut pipes = Pipes::default();
        pipes.insert(id(1), id(2));
        pipes.insert(id(3), id(2));
        pipes.insert(id(2), id(1));
        assert_eq!(pipes.sources_of(id(2)), [id(1), id(3)]);
        assert_eq!(pipes.sink_of(id(3)), Some(id(2)));
        for (source, sink) in [(1, 2), (3, 2), (2, 1)] {
            assert_eq!(pipes.remove(id(source)), Some(id(sink)));
            assert_eq!(pipes.remove(id(source)), None);
        }
        assert!(pipes.sinks.is_empty() && pipes.sources.is_empty());
    }
}

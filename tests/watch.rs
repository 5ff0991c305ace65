//! Descriptors of the application that the loop watches.
#![cfg(unix)]

use std::io::{PipeReader, Read, Write, pipe};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use waterwheel::{Config, EventLoop, Interest, Sim, WatchId};

struct Seen {
    reads: Vec<String>,
    errors: Vec<Option<i32>>,
    watch: Option<WatchId<PipeReader>>,
}

fn event_loop() -> EventLoop<Seen> {
    let seen = Seen {
        reads: Vec::new(),
        errors: Vec::new(),
        watch: None,
    };
    EventLoop::new(Config::default(), seen).unwrap()
}

/// Reads at most two bytes in each call, and ends at the end.
fn watch_by_twos(event_loop: &mut EventLoop<Seen>, reader: PipeReader) {
    let (seen, reactor) = event_loop.parts();
    let watching = reactor.watch(reader, Interest::Readable, |watch| {
        let mut bytes = [0; 2];
        let count = watch.descriptor.read(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes[..count]);
        watch.state.reads.push(text.into_owned());
        if count == 0 {
            watch.end();
        }
        std::io::Result::Ok(())
    });
    seen.watch = Some(watching.unwrap());
}

#[test]
fn a_pipe_is_told_again_until_it_is_read() {
    let mut event_loop = event_loop();
    let (reader, mut writer) = pipe().unwrap();
    watch_by_twos(&mut event_loop, reader);
    writer.write_all(b"abcde").unwrap();
    for turn in 1..=3 {
        event_loop.turn(None).unwrap();
        assert_eq!(event_loop.state().reads.len(), turn, "one call in a turn");
    }
    assert_eq!(event_loop.state().reads, ["ab", "cd", "e"]);
    // All is read: the loop may sleep, and no call comes.
    event_loop.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(event_loop.next_wakeup(), None);
    assert_eq!(event_loop.state().reads.len(), 3);
    drop(writer);
    event_loop.turn(None).unwrap();
    assert_eq!(event_loop.state().reads, ["ab", "cd", "e", ""]);
    let watch = event_loop.state().watch.unwrap();
    assert!(
        event_loop.reactor().unwatch(watch).is_none(),
        "it has ended"
    );
}

#[test]
fn unwatch_gives_the_descriptor_back() {
    let mut event_loop = event_loop();
    let (reader, mut writer) = pipe().unwrap();
    watch_by_twos(&mut event_loop, reader);
    writer.write_all(b"x").unwrap();
    let watch = event_loop.state().watch.unwrap();
    let mut reader = event_loop.reactor().unwatch(watch).unwrap();
    event_loop.turn(Some(Duration::ZERO)).unwrap();
    assert!(event_loop.state().reads.is_empty());
    let mut byte = [0];
    reader.read_exact(&mut byte).unwrap();
    assert_eq!(byte, *b"x");
    assert!(event_loop.reactor().unwatch(watch).is_none());
    // It is out of the poll, so it can be watched again.
    watch_by_twos(&mut event_loop, reader);
    writer.write_all(b"y").unwrap();
    event_loop.turn(None).unwrap();
    assert_eq!(event_loop.state().reads, ["y"]);
}

#[test]
fn a_panic_or_an_error_ends_the_watch() {
    for panics in [false, true] {
        let mut event_loop = event_loop();
        let (reader, mut writer) = pipe().unwrap();
        let watching = event_loop
            .reactor()
            .watch(reader, Interest::Readable, move |_| {
                assert!(!panics, "as the test wants");
                Err::<(), _>("as the test wants")
            });
        let watch = watching.unwrap();
        writer.write_all(b"x").unwrap();
        event_loop.turn(None).unwrap();
        event_loop.turn(Some(Duration::ZERO)).unwrap();
        let stats = event_loop.reactor().stats();
        let counts = (stats.panics, stats.callback_errors);
        assert_eq!(counts, (u64::from(panics), u64::from(!panics)));
        assert!(event_loop.reactor().unwatch(watch).is_none());
        let error = writer.write_all(b"y").unwrap_err();
        assert_eq!(
            error.kind(),
            std::io::ErrorKind::BrokenPipe,
            "it was closed"
        );
    }
}

// The callback puts another descriptor in its place, as if a descriptor had been closed and its number had been taken.
#[cfg(target_os = "linux")]
#[test]
fn a_descriptor_that_is_in_the_poll_no_longer_is_told_and_ends() {
    let mut event_loop = event_loop();
    let (reader, mut writer) = pipe().unwrap();
    let (other, other_writer) = pipe().unwrap();
    let mut other = Some(OwnedFd::from(other));
    let watching =
        event_loop
            .reactor()
            .watch(OwnedFd::from(reader), Interest::Readable, move |watch| {
                let error = watch.error.as_ref();
                watch
                    .state
                    .errors
                    .push(error.and_then(|error| error.raw_os_error()));
                if let Some(other) = other.take() {
                    *watch.descriptor = other;
                }
            });
    let watch = watching.unwrap();
    writer.write_all(b"x").unwrap();
    event_loop.turn(None).unwrap();
    let not_found = Some(2);
    assert_eq!(event_loop.state().errors, [None, not_found]);
    event_loop.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(event_loop.next_wakeup(), None);
    assert!(event_loop.reactor().unwatch(watch).is_none());
    drop(other_writer);
}

#[cfg(target_os = "linux")]
#[test]
fn a_regular_file_and_a_descriptor_that_is_watched_are_refused() {
    let mut event_loop = event_loop();
    let file = std::fs::File::open(file!()).unwrap();
    let error = event_loop
        .reactor()
        .watch(file, Interest::Readable, |_| ())
        .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
    assert!(error.to_string().contains("regular file"), "{error}");
    let (reader, _writer) = pipe().unwrap();
    let reader = std::rc::Rc::new(reader);
    let mut watch = || {
        let reactor = event_loop.reactor();
        reactor.watch(reader.clone(), Interest::Readable, |_| ())
    };
    watch().unwrap();
    let error = watch().unwrap_err();
    assert!(error.to_string().contains("watched already"), "{error}");
    assert!(reader.as_raw_fd() >= 0);
}

#[test]
fn the_end_of_the_loop_closes_what_is_watched() {
    let mut event_loop = event_loop();
    let (reader, mut writer) = pipe().unwrap();
    watch_by_twos(&mut event_loop, reader);
    drop(event_loop);
    assert!(writer.write_all(b"x").is_err());
}

#[test]
fn a_simulation_has_no_descriptors() {
    let mut sim = Sim::new((), |_: &mut waterwheel::Reactor<()>| ());
    let (reader, _writer) = pipe().unwrap();
    let watching = sim.reactor().watch(reader, Interest::Readable, |_| ());
    assert_eq!(
        watching.unwrap_err().kind(),
        std::io::ErrorKind::Unsupported
    );
}

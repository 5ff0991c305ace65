//! Letters come back as capitals while they are still being sent: `cargo run --example both_ways`, then
//! `cat | curl -N -T - localhost:4573/capitals`. A client that does not read is not read either.

use std::io;

use waterwheel::{ListenerId, Reactor, Reply, Status};

pub fn listen(reactor: &mut Reactor<()>, address: &str) -> io::Result<ListenerId> {
    reactor.http(address, |http| {
        http.method_stream("PUT", "/capitals", |upload| {
            upload.body_bytes_max(u64::MAX);
            upload.on_head(|request| request.begin_body(Reply::new(Status::OK), None));
            upload.on_data(|upload, bytes| upload.send(bytes.to_ascii_uppercase()));
            upload.on_end(|upload| upload.finish_body());
        });
    })
}

fn main() -> io::Result<()> {
    Reactor::run((), |reactor| listen(reactor, "0.0.0.0:4573")).map(drop)
}

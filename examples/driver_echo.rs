//! The echo server of websocket-driver, with one blocking thread for each client:
//! `cargo run --example driver_echo`.

use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use waterwheel::websocket::{Driver, Event, Limits};

pub fn serve(mut socket: impl Read + Write) -> io::Result<()> {
    let mut driver = Driver::server(Limits::default());
    let mut bytes = [0; 4096];
    while !driver.is_ended() {
        let count = socket.read(&mut bytes)?;
        if count == 0 {
            break;
        }
        driver.receive(&mut bytes[..count], |driver, event| match event {
            Event::Text(text) => driver.text(text),
            Event::Binary(bytes) => driver.binary(bytes),
            Event::Close(..) => println!("Connection closed."),
            Event::Ping(_) | Event::Pong(_) => {}
        });
        socket.write_all(&driver.take_output())?;
    }
    Ok(())
}

pub fn serve_all(listener: &TcpListener) -> io::Result<()> {
    for socket in listener.incoming() {
        let socket = socket?;
        socket.set_read_timeout(Some(Duration::from_secs(30)))?;
        thread::spawn(|| serve(socket));
    }
    Ok(())
}

fn main() -> io::Result<()> {
    serve_all(&TcpListener::bind("127.0.0.1:8083")?)
}

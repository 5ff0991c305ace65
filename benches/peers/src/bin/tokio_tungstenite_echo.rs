//! tokio-tungstenite on a current-thread runtime, with the echo loop of its documentation.
//!
//! Its read buffer is 4 KiB, for its own 128 KiB make a connection cost as much.

#![forbid(unsafe_code)]

use std::io;

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::accept_async_with_config;
use tungstenite::protocol::WebSocketConfig;
use waterwheel_peers::{MESSAGE_BYTES_MAX, arguments, listen};

const READ_BUFFER_BYTES: usize = 4096;

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let listener = TcpListener::from_std(listen(arguments(false).port)?)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async {
            // Who ends in an error has ended.
            let _ = echo(stream).await;
        });
    }
}

async fn echo(stream: TcpStream) -> Result<(), tungstenite::Error> {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let mut socket = accept_async_with_config(stream, Some(config)).await?;
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}

//! An HTTP/2 server down to its frames (RFC 9113), to end connections in every way that a real one may.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::server::drain;

pub(crate) const INTERNAL_ERROR: u32 = 2;
pub(crate) const REFUSED_STREAM: u32 = 7;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM_AND_HEADERS: u8 = 5;
const PREFACE_LENGTH: usize = 24;

pub(crate) struct RawHttp2 {
    io: TlsStream<TcpStream>,
}

impl RawHttp2 {
    pub(crate) async fn accept(mut io: TlsStream<TcpStream>) -> Self {
        let mut preface = [0; PREFACE_LENGTH];
        io.read_exact(&mut preface).await.unwrap();
        let mut server = Self { io };
        server.write_frame(SETTINGS, 0, 0, &[]).await;
        server
    }

    /// The stream id of the next request, or nothing when the client has gone.
    pub(crate) async fn next_request(&mut self) -> Option<u32> {
        loop {
            let mut head = [0; 9];
            self.io.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let mut payload = vec![0; length as usize];
            self.io.read_exact(&mut payload).await.ok()?;
            if head[3] == HEADERS {
                return Some(stream);
            }
        }
    }

    pub(crate) async fn answer_ok(&mut self, stream: u32) {
        // 0x88 is `:status: 200` in HPACK's static table.
        self.write_frame(HEADERS, END_STREAM_AND_HEADERS, stream, &[0x88]).await;
    }

    pub(crate) async fn reset(&mut self, stream: u32, code: u32) {
        self.write_frame(RST_STREAM, 0, stream, &code.to_be_bytes()).await;
    }

    pub(crate) async fn go_away(&mut self, last_stream: u32) {
        let payload = [last_stream.to_be_bytes(), 0_u32.to_be_bytes()].concat();
        self.write_frame(GOAWAY, 0, 0, &payload).await;
    }

    /// Ends the connection in order, as far as TCP and TLS go.
    pub(crate) async fn close(mut self) {
        self.io.shutdown().await.unwrap();
        drain(self.io).await;
    }

    async fn write_frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.io.write_all(&frame).await.unwrap();
        self.io.flush().await.unwrap();
    }
}

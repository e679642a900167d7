//! A connection that breaks: between a client and a server, byte for byte, until as many have come from the server as the test says.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Listens as long as the process lives.
pub struct Proxy {
    /// `host:port`, as a server has it.
    pub address: String,
    passed: Arc<AtomicU64>,
}

impl Proxy {
    /// The first connection breaks after `cuts[0]` bytes from the server, the second after `cuts[1]`; later ones do not.
    pub fn start(server: &str, cuts: &[u64]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let (passed, server) = (Arc::new(AtomicU64::new(0)), server.to_owned());
        let mut cuts = VecDeque::from(cuts.to_vec());
        thread::spawn({
            let passed = passed.clone();
            move || {
                for client in listener.incoming().map_while(Result::ok) {
                    let Ok(upstream) = TcpStream::connect(&server) else { continue };
                    let left = cuts.pop_front().unwrap_or(u64::MAX);
                    let (from, to) = (both(&client), both(&upstream));
                    thread::spawn(move || {
                        let (mut from, mut to) = (from, to);
                        // Ends where either side does, which is what a test is about.
                        let _ = io::copy(&mut from, &mut to);
                    });
                    let passed = passed.clone();
                    thread::spawn(move || pass(upstream, client, left, &passed));
                }
            }
        });
        Self { address, passed }
    }

    /// Bytes that servers have sent to clients through it.
    pub fn passed_bytes(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }
}

fn both(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("a socket has two ends to hold")
}

fn pass(mut from: TcpStream, mut to: TcpStream, mut left: u64, passed: &AtomicU64) {
    let mut buffer = vec![0; 64 << 10];
    while left > 0 {
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let Ok(bytes @ 1..) = from.read(&mut buffer[..most]) else { break };
        if to.write_all(&buffer[..bytes]).is_err() {
            break;
        }
        left -= bytes as u64;
        passed.fetch_add(bytes as u64, Ordering::Relaxed);
    }
    let _ = (to.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
}

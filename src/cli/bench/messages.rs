//! gRPC's framing of messages in a body: a flag byte, the length in 4 bytes (big-endian), the message.

use prost::bytes::{Buf, BufMut, Bytes, BytesMut};

use super::BenchError;

/// Bytes before each message.
pub const PREFIX_BYTES: usize = 5;

/// Puts the prefix of a message of `length` bytes.
pub fn put_prefix(length: usize, out: &mut impl BufMut) {
    out.put_u8(0);
    out.put_u32(u32::try_from(length).expect("a message of the contract is far below 4 GiB"));
}

/// A message with its prefix.
pub fn framed(message: &impl prost::Message) -> Bytes {
    let length = message.encoded_len();
    let mut out = BytesMut::with_capacity(PREFIX_BYTES + length);
    put_prefix(length, &mut out);
    message.encode(&mut out).expect("the buffer grows");
    out.freeze()
}

/// Cuts what arrives, in chunks of any size, into messages.
#[derive(Default)]
pub struct Messages {
    arrived: Bytes,
}

impl Messages {
    /// Takes in what has arrived. Copies only the rest of a message that is not whole yet.
    pub fn push(&mut self, chunk: Bytes) {
        if self.arrived.is_empty() {
            self.arrived = chunk;
            return;
        }
        let mut joined = BytesMut::with_capacity(self.arrived.len() + chunk.len());
        joined.put_slice(&self.arrived);
        joined.put_slice(&chunk);
        self.arrived = joined.freeze();
    }

    /// The next whole message.
    pub fn next(&mut self) -> Result<Option<Bytes>, BenchError> {
        let Some((prefix, rest)) = self.arrived.split_first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
        let [flag, length @ ..] = *prefix;
        if flag != 0 {
            return Err("the server compressed an answer, which it was not asked to".into());
        }
        let length = u32::from_be_bytes(length) as usize;
        if rest.len() < length {
            return Ok(None);
        }
        self.arrived.advance(PREFIX_BYTES);
        Ok(Some(self.arrived.split_to(length)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_wherever_the_chunks_are_cut() {
        let mut body = BytesMut::new();
        let sent: Vec<Vec<u8>> = [0, 1, 300, 7].map(|length| vec![length as u8; length]).into();
        for message in &sent {
            put_prefix(message.len(), &mut body);
            body.put_slice(message);
        }
        let body = body.freeze();
        for chunk_bytes in [1, 2, 5, 6, 64, body.len()] {
            let (mut messages, mut got) = (Messages::default(), Vec::new());
            for chunk in body.chunks(chunk_bytes) {
                messages.push(Bytes::copy_from_slice(chunk));
                while let Some(message) = messages.next().unwrap() {
                    got.push(message.to_vec());
                }
            }
            assert_eq!(got, sent, "chunks of {chunk_bytes}");
        }
    }

    #[test]
    fn a_compressed_message_is_refused() {
        let mut messages = Messages::default();
        messages.push(Bytes::from_static(&[1, 0, 0, 0, 0]));
        assert!(messages.next().is_err());
    }
}

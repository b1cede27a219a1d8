//! A client that writes exactly the bytes it is told to, in the clear or inside a tunnel's TLS.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
};

use ::egret::{ca::CertificateAuthority, tls::Trust};
use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};

use super::PATIENCE;

/// A connection.
pub struct Raw {
    stream: Stream,
    buffer: Vec<u8>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub reason: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether the body ended as its framing says.
    pub complete: bool,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("not JSON: {e}: {}", self.text()))
    }

    /// The refusal's code; empty when it is none.
    pub fn code(&self) -> String {
        serde_json::from_slice::<serde_json::Value>(&self.body)
            .ok()
            .and_then(|b| b["code"].as_str().map(str::to_owned))
            .unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }
}

impl Raw {
    pub fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: Stream::Plain(stream), buffer: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        // The other side may have closed already; what it answered is what counts.
        let _ = self.write(bytes.as_ref());
        self
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(bytes),
            Stream::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }

    /// Reads more; zero at the end, also when it was reset.
    fn more(&mut self) -> usize {
        let mut chunk = [0; 16 * 1024];
        let read = match &mut self.stream {
            Stream::Plain(stream) => stream.read(&mut chunk),
            Stream::Tls(stream) => stream.read(&mut chunk),
        };
        match read {
            Ok(read) => {
                self.buffer.extend_from_slice(&chunk[..read]);
                read
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                panic!("nothing came in time; so far: {}", String::from_utf8_lossy(&self.buffer))
            }
            Err(_) => 0,
        }
    }

    /// Everything until the connection ends.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.more() > 0 {}
        std::mem::take(&mut self.buffer)
    }

    /// At least one more piece of what comes, as it comes.
    pub fn piece(&mut self) -> String {
        if self.buffer.is_empty() {
            self.more();
        }
        String::from_utf8_lossy(&std::mem::take(&mut self.buffer)).into_owned()
    }

    /// Reads until `part` has come; gives everything up to it.
    pub fn until(&mut self, part: &str) -> String {
        loop {
            if let Some(at) = self.buffer.windows(part.len()).position(|w| w == part.as_bytes()) {
                let rest = self.buffer.split_off(at + part.len());
                return String::from_utf8_lossy(&std::mem::replace(&mut self.buffer, rest)).into_owned();
            }
            assert!(
                self.more() > 0,
                "the connection ended before `{part}`: {}",
                String::from_utf8_lossy(&self.buffer)
            );
        }
    }

    /// Reads until `part` has come and forgets it; none when the connection ends before.
    pub fn until_or_end(&mut self, part: &str) -> Option<()> {
        loop {
            if let Some(at) = self.buffer.windows(part.len()).position(|w| w == part.as_bytes()) {
                self.buffer.drain(..at + part.len());
                return Some(());
            }
            if self.more() == 0 {
                return None;
            }
        }
    }

    /// The head of the next answer.
    pub fn head(&mut self) -> Answer {
        let head = loop {
            if let Some(at) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                let rest = self.buffer.split_off(at + 4);
                break std::mem::replace(&mut self.buffer, rest);
            }
            assert!(
                self.more() > 0,
                "the connection ended without an answer: {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
        };
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut lines = head.trim_end().split("\r\n");
        let mut first = lines.next().unwrap().splitn(3, ' ');
        let status = first.nth(1).unwrap().parse().unwrap();
        let reason = first.next().unwrap_or("").to_owned();
        let headers = lines
            .filter_map(|l| l.split_once(':'))
            .map(|(n, v)| (n.trim().to_owned(), v.trim().to_owned()))
            .collect();
        Answer { status, reason, headers, body: Vec::new(), complete: true }
    }

    /// The next answer to a request that is not `HEAD`.
    pub fn answer(&mut self) -> Answer {
        let mut answer = self.head();
        while answer.status == 100 {
            answer = self.head();
        }
        if answer.header("transfer-encoding").is_some() {
            loop {
                let Some(size) = self.line() else {
                    answer.complete = false;
                    return answer;
                };
                let size = usize::from_str_radix(size.split(';').next().unwrap().trim(), 16).unwrap();
                if size == 0 {
                    while let Some(line) = self.line() {
                        if line.is_empty() {
                            break;
                        }
                        if let Some((name, value)) = line.split_once(':') {
                            answer.headers.push((name.to_owned(), value.trim().to_owned()));
                        }
                    }
                    return answer;
                }
                if !self.take(size + 2, &mut answer.body) {
                    answer.complete = false;
                    return answer;
                }
                answer.body.truncate(answer.body.len() - 2);
            }
        }
        let length: usize = match answer.header("content-length") {
            Some(length) => length.parse().unwrap(),
            None if matches!(answer.status, 101 | 204 | 304) => 0,
            None if answer.status == 200 && answer.headers.is_empty() => 0,
            None => {
                answer.body = self.rest();
                return answer;
            }
        };
        answer.complete = self.take(length, &mut answer.body);
        answer
    }

    /// The head of the next answer, or none when the connection ends without one.
    pub fn try_head(&mut self) -> Option<Answer> {
        while self.buffer.is_empty() {
            if self.more() == 0 {
                return None;
            }
        }
        Some(self.head())
    }

    /// The next answer, or none when the connection ends without one.
    pub fn try_answer(&mut self) -> Option<Answer> {
        while self.buffer.is_empty() {
            if self.more() == 0 {
                return None;
            }
        }
        Some(self.answer())
    }

    /// Exactly so many bytes, or none when the connection ends before.
    pub fn try_exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        self.take(length, &mut bytes).then_some(bytes)
    }

    /// Exactly so many bytes.
    pub fn exactly(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        assert!(self.take(length, &mut bytes), "the connection ended after {bytes:02x?}");
        bytes
    }

    /// Reads `length` bytes and forgets them; gives how many came.
    pub fn skim(&mut self, length: u64) -> u64 {
        let mut left = length - (self.buffer.len() as u64).min(length);
        let kept = usize::try_from(length - left).unwrap();
        self.buffer.drain(..kept);
        let mut chunk = vec![0; 256 * 1024];
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
            let read = match &mut self.stream {
                Stream::Plain(stream) => stream.read(&mut chunk[..most]),
                Stream::Tls(stream) => stream.read(&mut chunk[..most]),
            };
            match read {
                Ok(0) | Err(_) => break,
                Ok(read) => left -= read as u64,
            }
        }
        length - left
    }

    /// Sends until nothing more is taken for `patience`, or `most` bytes are sent; gives how many were.
    pub fn press(&mut self, most: u64, patience: std::time::Duration) -> u64 {
        let Stream::Plain(stream) = &mut self.stream else { panic!("in the clear only") };
        stream.set_write_timeout(Some(patience)).unwrap();
        let piece = vec![0; 64 * 1024];
        let mut sent = 0;
        while sent < most {
            match stream.write(&piece) {
                Ok(written) => sent += written as u64,
                Err(_) => break,
            }
        }
        sent
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|w| w == b"\r\n") {
                let rest = self.buffer.split_off(at + 2);
                let line = std::mem::replace(&mut self.buffer, rest);
                return Some(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            if self.more() == 0 {
                return None;
            }
        }
    }

    fn take(&mut self, length: usize, into: &mut Vec<u8>) -> bool {
        while self.buffer.len() < length {
            if self.more() == 0 {
                into.append(&mut self.buffer);
                return false;
            }
        }
        let rest = self.buffer.split_off(length);
        into.append(&mut std::mem::replace(&mut self.buffer, rest));
        true
    }

    /// Opens a tunnel and says what came back; `self` goes on inside it when it was 200.
    pub fn connect_to(&mut self, authority: &str, headers: &str) -> Answer {
        self.send(format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n{headers}\r\n"));
        let mut answer = self.head();
        if answer.status != 200 {
            let length: usize = answer.header("content-length").map_or(0, |l| l.parse().unwrap());
            answer.complete = self.take(length, &mut answer.body);
        }
        answer
    }

    /// Speaks TLS from here on, with SNI `name`, trusting `authority` alone.
    pub fn tls(self, name: &str, authority: &CertificateAuthority) -> Self {
        self.try_tls(name, authority, &["http/1.1"]).unwrap()
    }

    /// The same, where it may fail.
    pub fn try_tls(self, name: &str, authority: &CertificateAuthority, alpn: &[&str]) -> io::Result<Self> {
        let Stream::Plain(stream) = self.stream else { panic!("already TLS") };
        let trust = Trust::only(authority.certificate().clone()).unwrap();
        let mut config = (*trust.client().config(true).unwrap()).clone();
        config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self { stream: Stream::Tls(Box::new(stream)), buffer: Vec::new() })
    }

    /// The certificates that the server showed.
    pub fn certificates(&self) -> Vec<Vec<u8>> {
        match &self.stream {
            Stream::Tls(stream) => {
                stream.conn.peer_certificates().unwrap_or_default().iter().map(|c| c.to_vec()).collect()
            }
            Stream::Plain(_) => Vec::new(),
        }
    }

    /// Ends the sending side.
    pub fn finish(&mut self) -> &mut Self {
        if let Stream::Plain(stream) = &self.stream {
            let _ = stream.shutdown(std::net::Shutdown::Write);
        }
        self
    }
}

/// Headers by name, for comparisons.
pub fn by_name(headers: &[(String, String)]) -> BTreeMap<String, String> {
    headers.iter().map(|(n, v)| (n.to_ascii_lowercase(), v.clone())).collect()
}

//! A server that sends whatever bytes it is told to, HTTP or not.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// One request.
pub struct Asked {
    /// `GET /orgs/octo-org/…`, with the query.
    pub what: String,
    /// The operation, if it is one of AWS's.
    pub operation: Option<String>,
}

/// What is sent back.
pub struct Sent {
    pub bytes: Vec<u8>,
    /// The connection may be used again: what was sent is an answer as HTTP wants it.
    pub keep: bool,
}

type Answer = Box<dyn FnMut(&Asked) -> Sent + Send>;

#[derive(Default)]
struct Script {
    answer: Option<Answer>,
    count: usize,
}

/// The server. It runs whenever its runtime does.
pub struct Server {
    pub url: String,
    script: Arc<Mutex<Script>>,
}

impl Server {
    pub async fn start() -> Server {
        let script = Arc::<Mutex<Script>>::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let shared = Arc::clone(&script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Otherwise Nagle's algorithm adds 40 ms to some answers.
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Server { url, script }
    }

    /// From here on, this is answered, and requests are counted anew.
    pub fn will_answer(&self, answer: impl FnMut(&Asked) -> Sent + Send + 'static) {
        let mut script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        *script = Script { answer: Some(Box::new(answer)), count: 0 };
    }

    /// How many requests there were.
    pub fn count(&self) -> usize {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).count
    }
}

async fn serve(mut stream: TcpStream, script: Arc<Mutex<Script>>) {
    while let Some(asked) = read(&mut stream).await {
        let sent = {
            let mut script = script.lock().unwrap_or_else(PoisonError::into_inner);
            script.count += 1;
            script.answer.as_mut().expect("a script")(&asked)
        };
        if stream.write_all(&sent.bytes).await.is_err() || !sent.keep {
            return;
        }
    }
}

/// One request, to its last byte; `None` at the end of the connection.
async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let header = |name: &str| {
        head.lines().filter_map(|line| line.split_once(": ")).find_map(|(key, value)| {
            if key.eq_ignore_ascii_case(name) { Some(value.to_owned()) } else { None }
        })
    };
    let length: usize = header("content-length").map_or(0, |length| length.parse().expect("a length"));
    while bytes.len() < end + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let what = head.lines().next()?.rsplit_once(' ')?.0.to_owned();
    let operation = header("x-amz-target").and_then(|target| Some(target.split_once('.')?.1.to_owned()));
    Some(Asked { what, operation })
}

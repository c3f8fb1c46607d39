use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// Stands between a client and the broker, and can cut its connections as a broken network does.
pub struct Relay {
    address: SocketAddr,
    sockets: Arc<Mutex<Vec<TcpStream>>>,
}

impl Relay {
    /// Forwards what connects to it to `target`, host:port.
    ///
    /// # Panics
    /// When there is no port left.
    #[must_use]
    pub fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let sockets = Arc::new(Mutex::new(Vec::new()));
        let (kept, target) = (Arc::clone(&sockets), target.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(&target).expect("the broker");
                let clone = |socket: &TcpStream| socket.try_clone().expect("a second handle");
                kept.lock().expect("no panic").extend([clone(&client), clone(&server)]);
                copy(clone(&client), clone(&server));
                copy(server, client);
            }
        });
        Self { address, sockets }
    }

    /// Where a client connects to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@{}/%2f", self.address)
    }

    /// Cuts every connection.
    ///
    /// # Panics
    /// When another thread panicked.
    pub fn cut(&self) {
        for socket in self.sockets.lock().expect("no panic").drain(..) {
            let _gone = socket.shutdown(Shutdown::Both);
        }
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        let _bytes = io::copy(&mut from, &mut to);
        let _gone = to.shutdown(Shutdown::Both);
    });
}

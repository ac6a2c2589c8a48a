//! A worker in Rust: it attaches to `maitred serve --attach PATH`, and answers HTTP/1.1.
//!
//!     rustc --edition 2021 -O -o worker examples/worker.rs
//!     ./worker /run/maitred/workers.sock one
//!
//! The protocol is in docs/reference/channel.md. No crate is needed: what std does not have of Unix
//! sockets, descriptors in messages above all, is declared below as Linux has it on 64 bits.
//! Invariant: TAKEN is said before a connection is read, CLOSED when it is over.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{FromRawFd, RawFd};
use std::os::raw::{c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, mem, process, ptr, thread, time::Duration};

#[repr(C)]
struct IoVec { base: *mut c_void, len: usize }
#[repr(C)]
struct MsgHdr { name: *mut c_void, namelen: u32, iov: *mut IoVec, iovlen: usize, control: *mut c_void, controllen: usize, flags: c_int }
#[repr(C)]
struct SockaddrUn { family: u16, path: [u8; 108] }

extern "C" {
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn connect(fd: c_int, address: *const SockaddrUn, size: u32) -> c_int;
    fn send(fd: c_int, data: *const c_void, size: usize, flags: c_int) -> isize;
    fn recvmsg(fd: c_int, message: *mut MsgHdr, flags: c_int) -> isize;
    fn getsockopt(fd: c_int, level: c_int, name: c_int, value: *mut c_void, size: *mut u32) -> c_int;
    fn close(fd: c_int) -> c_int;
}

const AF_UNIX: c_int = 1;
const SEQPACKET_CLOEXEC: c_int = 5 | 0o2000000;
const NOSIGNAL: c_int = 0x4000;
const CMSG_CLOEXEC: c_int = 0x40000000;
const SO_COOKIE: c_int = 57;

const VERSION: u8 = 4;
const HEADER: usize = 12;
const HANDOFF_RECORD: usize = 40;
const HANDOFF: u8 = 1;
const READY: u8 = 2;
const TAKEN: u8 = 3;
const REFUSED: u8 = 4;
const DRAIN: u8 = 8;
const QUIT: u8 = 9;
const DRAINED: u8 = 10;
const CLOSED: u8 = 12;
const ATTACH: u8 = 20;
const ATTACHED: u8 = 21;
const WRONG_DESCRIPTOR: u8 = 3;

static OPEN: AtomicUsize = AtomicUsize::new(0);

/// Say one message: its record and its blobs. A packet of SOCK_SEQPACKET is sent whole or not at all.
fn say(channel: RawFd, kind: u8, body: &[u8]) {
    let mut packet = vec![VERSION, kind, 0, 0, 0, 1, 0, 0];
    packet.extend((body.len() as u32).to_be_bytes());
    packet.extend(body);
    if unsafe { send(channel, packet.as_ptr().cast(), packet.len(), NOSIGNAL) } < 0 {
        process::exit(0); // the master is gone: so are we
    }
}

/// Wait for a packet; give its size and the descriptors that came with it, which are ours.
fn hear(channel: RawFd, packet: &mut [u8]) -> (usize, Vec<RawFd>) {
    let mut control = [0u64; 160]; // aligned, and more than 253 descriptors need
    let mut iov = IoVec { base: packet.as_mut_ptr().cast(), len: packet.len() };
    let mut message = MsgHdr {
        name: ptr::null_mut(), namelen: 0, iov: &mut iov, iovlen: 1,
        control: control.as_mut_ptr().cast(), controllen: mem::size_of_val(&control), flags: 0,
    };
    let size = unsafe { recvmsg(channel, &mut message, CMSG_CLOEXEC) };
    if size <= 0 {
        process::exit(0);
    }
    // One SCM_RIGHTS at most: its length with the header of 16 bytes, level, kind, numbers.
    let mut descriptors = Vec::new();
    if message.controllen >= 16 {
        let count = (control[0] as usize - 16) / 4;
        let numbers = unsafe { (control.as_ptr() as *const RawFd).add(4) };
        descriptors.extend((0..count).map(|i| unsafe { *numbers.add(i) }));
    }
    (size as usize, descriptors)
}

fn number(data: &[u8]) -> usize {
    data.iter().fold(0, |sum, byte| sum << 8 | *byte as usize)
}

/// Answer one request, and close.
fn serve(channel: RawFd, fd: RawFd, id: [u8; 8], consumed: Vec<u8>) {
    let mut stream = unsafe { TcpStream::from_raw_fd(fd) };
    let (mut head, mut piece) = (consumed, [0u8; 4096]);
    let _ = stream.set_nonblocking(false);
    let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < 16384 {
        match stream.read(&mut piece) {
            Ok(count) if count > 0 => head.extend(&piece[..count]),
            _ => break,
        }
    }
    let body = format!("Hello from a Rust worker, pid {}\n", process::id());
    let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}", body.len(), body);
    let _ = stream.shutdown(Shutdown::Both);
    drop(stream);
    say(channel, CLOSED, &id);
    OPEN.fetch_sub(1, Ordering::SeqCst);
}

fn attach(path: &str, name: &str) -> RawFd {
    let mut address = SockaddrUn { family: AF_UNIX as u16, path: [0; 108] };
    assert!(path.len() < 108, "the path is too long");
    address.path[..path.len()].copy_from_slice(path.as_bytes());
    let channel = unsafe { socket(AF_UNIX, SEQPACKET_CLOEXEC, 0) };
    if unsafe { connect(channel, &address, mem::size_of::<SockaddrUn>() as u32) } < 0 {
        panic!("cannot attach at {path}: {}", std::io::Error::last_os_error());
    }
    let mut nonce = [0u8; 16];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut nonce)).expect("random bytes");
    let mut body = (name.len() as u32).to_be_bytes().to_vec();
    body.extend([0, 0, 0, 16, 0, 64]); // the nonce's length, and as many as we like ahead of TAKEN
    body.extend(name.as_bytes());
    body.extend(nonce);
    say(channel, ATTACH, &body);
    let mut packet = [0u8; 512];
    let (size, board) = hear(channel, &mut packet);
    if packet[1] != ATTACHED {
        panic!("rejected: {}", String::from_utf8_lossy(&packet[HEADER + 4..size]));
    }
    for fd in board {
        unsafe { close(fd) }; // the scoreboard, which we leave alone
    }
    channel
}

fn main() {
    let words: Vec<String> = env::args().collect();
    let channel = attach(&words[1], &words[2]);
    let mut ready = process::id().to_be_bytes().to_vec();
    ready.extend([0, 0]); // we mark no connections, and move none
    say(channel, READY, &ready);
    let mut packet = vec![0u8; 128 * 1024];
    loop {
        let (_, descriptors) = hear(channel, &mut packet);
        let records = number(&packet[4..6]);
        match packet[1] {
            HANDOFF => {
                let mut end = HEADER + HANDOFF_RECORD * records;
                for index in 0..records {
                    let record = &packet[HEADER + index * HANDOFF_RECORD..][..HANDOFF_RECORD];
                    let id: [u8; 8] = record[..8].try_into().unwrap();
                    // Peer, local address and key, what was consumed, and what was frozen.
                    let before = number(&record[8..12]) + number(&record[14..18]) + number(&record[20..24]);
                    let (consumed, frozen) = (number(&record[25..29]), number(&record[36..40]));
                    let start = end + before;
                    let bytes = packet[start..start + consumed].to_vec();
                    end = start + consumed + frozen;
                    let (mut cookie, mut size) = (0u64, 8u32);
                    let fd = descriptors.get(index).copied().unwrap_or(-1);
                    unsafe { getsockopt(fd, 1, SO_COOKIE, (&mut cookie as *mut u64).cast(), &mut size) };
                    if cookie != u64::from_be_bytes(id) {
                        unsafe { close(fd) };
                        say(channel, REFUSED, &[&id[..], &[WRONG_DESCRIPTOR]].concat());
                        continue;
                    }
                    say(channel, TAKEN, &id);
                    OPEN.fetch_add(1, Ordering::SeqCst);
                    thread::spawn(move || serve(channel, fd, id, bytes));
                }
            }
            DRAIN => {
                while OPEN.load(Ordering::SeqCst) > 0 {
                    thread::sleep(Duration::from_millis(10));
                }
                say(channel, DRAINED, &[0; 4]);
                return;
            }
            QUIT => return,
            _ => {} // all processes that run this answer alike: keys do not matter here
        }
    }
}

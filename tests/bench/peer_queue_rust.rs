// peer_queue_rust.rs FIGURE - the bounded channel of Rust's standard library: prints ns per item
// (for uncontended_put_get: per put and get together); `version` prints what compiled it. The
// figures are those of bench_queue.c, which has the same loops.
use std::sync::mpsc::{sync_channel, Receiver, SyncSender};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Instant;

const CAPACITY: usize = 1024;

trait Item: Send + 'static {
    fn make(i: u64) -> Self;
    fn sum(&self) -> u64;
}

impl Item for u64 {
    fn make(i: u64) -> u64 {
        i
    }
    fn sum(&self) -> u64 {
        *self
    }
}

impl Item for [u64; 8] {
    fn make(i: u64) -> [u64; 8] {
        [i; 8]
    }
    fn sum(&self) -> u64 {
        self.iter().fold(0, |sum, word| sum.wrapping_add(*word))
    }
}

fn produce<T: Item>(channel: SyncSender<T>, items: u64) {
    for i in 0..items {
        channel.send(T::make(i)).unwrap();
    }
}

fn consume<T: Item>(channel: Receiver<T>) -> u64 {
    let mut sum = 0u64;
    while let Ok(item) = channel.recv() {
        sum = sum.wrapping_add(item.sum());
    }
    sum
}

fn expect(sum: u64, items: u64, words: u64) {
    assert_eq!(
        sum,
        (items * (items - 1) / 2).wrapping_mul(words),
        "items got lost"
    );
}

// One producer, one consumer. Each takes its own time: main may get to run much later.
fn pair<T: Item>(items: u64) -> f64 {
    let (sender, receiver) = sync_channel::<T>(CAPACITY);
    let start = Arc::new(Barrier::new(2));
    let start_producer = start.clone();
    let producer = thread::spawn(move || {
        start_producer.wait();
        let began = Instant::now();
        produce(sender, items);
        began
    });
    let consumer = thread::spawn(move || {
        start.wait();
        let began = Instant::now();
        let sum = consume(receiver);
        (began, Instant::now(), sum)
    });
    let began = producer.join().unwrap();
    let (began_too, ended, sum) = consumer.join().unwrap();
    let lasted = ended - began.min(began_too);
    expect(sum, items, T::make(1).sum());
    lasted.as_nanos() as f64 / items as f64
}

fn alone(items: u64) -> f64 {
    let (sender, receiver) = sync_channel::<u64>(CAPACITY);
    let mut sum = 0u64;
    let began = Instant::now();
    for i in 0..items {
        sender.send(i).unwrap();
        sum = sum.wrapping_add(receiver.recv().unwrap());
    }
    let lasted = began.elapsed();
    expect(sum, items, 1);
    lasted.as_nanos() as f64 / items as f64
}

// The figure of a run after one, a quarter as long, to warm up.
fn warm(run: fn(u64) -> f64, items: u64) -> f64 {
    run(items / 4);
    run(items)
}

fn main() {
    let figure = std::env::args().nth(1).unwrap_or_default();
    let ns = match figure.as_str() {
        // run.sh says what `rustc --version` printed, as in: rustc 1.63.0
        "version" => return println!("{}", option_env!("PEER_COMPILER").unwrap_or("rustc ?")),
        "fifo_1p1c" | "fifo_1p1c_batch64" => warm(pair::<u64>, 6_000_000),
        "fifo_64B_1p1c" => warm(pair::<[u64; 8]>, 4_000_000),
        "uncontended_put_get" => warm(alone, 8_000_000),
        _ => {
            eprintln!("peer_queue_rust: no figure '{}'", figure);
            std::process::exit(2);
        }
    };
    println!("{:.3}", ns);
}

//! The ledger: every message that is sent has a number, and every number must be found again.
//!
//! A producer of its own thread sends numbered messages and has each confirmed, whatever happens to the broker
//! meanwhile. The processor `Sort` of the guest `hostile` does with each what its last digit says. At the end
//! everything in the out queue, with the dead letters, on disk and in the broker's own queue for dead letters is held
//! against the numbers: [`Balance`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    ops::Range,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    client::{Client, Msg},
    host::One,
    target::{Login, Target},
};

/// Messages confirmed together.
const BATCH: u32 = 20;
/// Messages that are sent when everything else is over.
const LAST: u32 = 100;
/// Messages that wait at the broker before anything else happens: load from the first moment on.
const AHEAD: u32 = 500;
/// Messages a second after that.
const RATE: u32 = 1_000;
/// How long nothing new may arrive before what is missing counts as lost.
const PATIENCE: Duration = Duration::from_secs(60);
/// A broker that was killed needs some time to be there again.
const BROKER_LIMIT: Duration = Duration::from_secs(180);

/// What a number leads to.
enum Meant {
    Outputs(u32),
    Filtered,
    DeadLetter,
}

fn meant(number: u32) -> Meant {
    match number % 10 {
        4 => Meant::Filtered,
        5 => Meant::DeadLetter,
        6 => Meant::Outputs(2),
        7 => Meant::Outputs(3),
        _ => Meant::Outputs(1),
    }
}

/// A processor `Sort` between two queues of its own, with the settings of the in queue and the processor.
pub fn sorter(target: &Target, queue: &Value, processor: Value) -> One {
    let mut one = One::on(target, target.patient("sort"), "Sort", processor);
    one.config["processors"]["one"]["module"] = json!("sorts");
    for (key, value) in queue.as_object().into_iter().flatten() {
        one.config["queues"]["in"][key] = value.clone();
    }
    one.config["guard_period"] = json!(1);
    one.config["processors"]["one"]["retry"] = json!({"min_delay_ms": 20, "max_delay_ms": 200});
    one
}

/// A producer at work.
#[derive(Debug)]
pub struct Ledger {
    stop: Arc<AtomicBool>,
    /// Messages a second.
    rate: Arc<AtomicU32>,
    /// How many are confirmed.
    confirmed: Arc<AtomicU32>,
    sending: JoinHandle<Sent>,
}

/// What was sent.
#[derive(Debug, Default)]
struct Sent {
    count: u32,
    /// Written again because no receipt came, and how often.
    rewritten: BTreeMap<u32, u32>,
}

impl Ledger {
    /// Sends until [`Ledger::close`]; returns when the first messages wait at the broker.
    pub fn open(target: &Target, one: &One) -> Self {
        let mut sender = Sender::new(target, one);
        sender.send(AHEAD);
        let (stop, rate) = (Arc::<AtomicBool>::default(), Arc::new(AtomicU32::new(RATE)));
        let confirmed = Arc::new(AtomicU32::new(AHEAD));
        let (stopped, paced, counted) = (stop.clone(), rate.clone(), confirmed.clone());
        let sending = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                sender.send(BATCH);
                counted.store(sender.sent.count, Ordering::Relaxed);
                thread::sleep(Duration::from_secs(1) * BATCH / paced.load(Ordering::Relaxed));
            }
            // Behind all that was in trouble: when they are through, so is what stood before them.
            sender.send(LAST);
            sender.sent
        });
        Self { stop, rate, confirmed, sending }
    }

    /// No higher number has been sent.
    pub fn highest(&self) -> u32 {
        self.confirmed.load(Ordering::Relaxed) + BATCH
    }

    /// From now on so many messages a second.
    pub fn set_rate(&self, rate: u32) {
        self.rate.store(rate, Ordering::Relaxed);
    }

    /// Ends the sending and collects until every number is found or nothing comes any more; then `end` must end
    /// the host in good order. What is left in the in queue after that was not settled.
    pub fn close(self, target: &Target, one: &One, end: impl FnOnce()) -> Balance {
        self.close_from(None, target, one, end)
    }

    /// The same where numbers up to this one may be missing: it was the highest at the last fault. All that was sent later
    /// must be found.
    pub fn close_with_losses(self, highest: u32, target: &Target, one: &One, end: impl FnOnce()) -> Balance {
        let balance = self.close_from(Some(highest), target, one, end);
        let late: Vec<_> = balance.lost.iter().filter(|number| **number > highest).collect();
        assert!(late.is_empty(), "lost after the last fault: {late:?}, {balance}");
        balance
    }

    /// Waits for all numbers, or for the last ones.
    fn close_from(self, highest: Option<u32>, target: &Target, one: &One, end: impl FnOnce()) -> Balance {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sending.join().unwrap();
        let mut found = Found::default();
        let mut last_new = Instant::now();
        let first = highest.map_or(0, |highest| sent.count.saturating_sub(LAST).max(highest + 1));
        while found.is_missing(first..sent.count) && last_new.elapsed() < PATIENCE {
            if found.collect(target, one) {
                last_new = Instant::now();
            }
        }
        end();
        found.collect(target, one);
        let left = target.drain(&one.from).iter().map(|message| number(&message.text())).collect();
        let mark = mark(one);
        let taken =
            target.taken_away().iter().map(Msg::text).filter(|text| text.starts_with(&mark)).collect::<Vec<_>>();
        let mut balance = found.balance(&sent, left);
        balance.taken = taken.iter().map(|text| number(text)).collect();
        balance
    }
}

/// Sends and confirms, and goes on when the broker is there again.
struct Sender {
    address: std::net::SocketAddr,
    mark: String,
    login: Option<Login>,
    destination: String,
    client: Option<Client>,
    sent: Sent,
}

impl Sender {
    fn new(target: &Target, one: &One) -> Self {
        let (mark, destination) = (mark(one), one.from.clone());
        Self { address: target.address, mark, login: target.login(), destination, client: None, sent: Sent::default() }
    }

    fn send(&mut self, count: u32) {
        let numbers: Vec<u32> = (self.sent.count..self.sent.count + count).collect();
        let bodies: Vec<String> = numbers.iter().map(|number| format!("{} {number:06}", self.mark)).collect();
        let limit = Instant::now() + BROKER_LIMIT;
        while let Err(error) = self.try_send(&bodies) {
            assert!(Instant::now() < limit, "nothing can be sent: {error:#}");
            if self.client.take().is_some() {
                numbers.iter().for_each(|number| *self.sent.rewritten.entry(*number).or_default() += 1);
            }
            thread::sleep(Duration::from_millis(50));
        }
        self.sent.count += count;
    }

    fn try_send(&mut self, bodies: &[String]) -> anyhow::Result<()> {
        let client = match &mut self.client {
            Some(client) => client,
            none => none.insert(Client::connect(self.address, self.login)?),
        };
        client.send_all(&self.destination, bodies)
    }
}

/// What has arrived.
#[derive(Debug, Default)]
struct Found {
    outputs: BTreeMap<u32, BTreeMap<u32, u32>>,
    dead: BTreeMap<u32, u32>,
    codes: BTreeMap<String, usize>,
    /// Numbers of which something says itself that it was sent again.
    marked: BTreeSet<u32>,
    /// Lines of the spool.
    spooled: usize,
}

impl Found {
    /// Takes what has come; whether there was anything.
    fn collect(&mut self, target: &Target, one: &One) -> bool {
        let (out, dead) = (target.drain(&one.to), target.drain(&one.dead));
        for message in &out {
            let text = message.text();
            let part = text.rsplit_once('/').expect("an output of Sort").1.parse().unwrap();
            *self.outputs.entry(number(&text)).or_default().entry(part).or_default() += 1;
            self.mark(&text, message);
        }
        for message in &dead {
            *self.dead.entry(number(&message.text())).or_default() += 1;
            self.mark(&message.text(), message);
            *self.codes.entry(message.header("stompbox_error_code").unwrap_or("none").to_owned()).or_default() += 1;
        }
        let spooled = self.collect_spooled(one);
        !(out.is_empty() && dead.is_empty()) || spooled
    }

    fn mark(&mut self, text: &str, message: &Msg) {
        if message.header("stompbox_resent").is_some() {
            self.marked.insert(number(text));
        }
    }

    /// Takes what the host has put into its `state_dir`; whether there was anything.
    fn collect_spooled(&mut self, one: &One) -> bool {
        let Some(dir) = one.config["state_dir"].as_str() else { return false };
        let file = Path::new(dir).join("dead-letters/in.jsonl");
        let text = fs::read_to_string(file).unwrap_or_default();
        let new: Vec<&str> = text.lines().skip(self.spooled).collect();
        self.spooled += new.len();
        for line in &new {
            let letter: Value = serde_json::from_str(line).unwrap();
            *self.dead.entry(number(letter["body"].as_str().unwrap())).or_default() += 1;
        }
        !new.is_empty()
    }

    fn is_missing(&self, mut numbers: Range<u32>) -> bool {
        numbers.any(|number| !matches!(meant(number), Meant::Filtered) && self.times(number) == 0)
    }

    /// How often it was carried out as a whole.
    fn times(&self, number: u32) -> u32 {
        let outputs = match (meant(number), self.outputs.get(&number)) {
            (Meant::Outputs(parts), Some(found)) if found.len() == parts as usize => found.values().min(),
            _ => None,
        };
        outputs.copied().unwrap_or_default() + self.dead.get(&number).copied().unwrap_or_default()
    }

    /// How often any of it arrived.
    fn copies(&self, number: u32) -> u32 {
        let outputs = self.outputs.get(&number).and_then(|found| found.values().max());
        outputs.copied().unwrap_or_default() + self.dead.get(&number).copied().unwrap_or_default()
    }

    fn balance(self, sent: &Sent, left: BTreeSet<u32>) -> Balance {
        let mut balance = Balance { sent: sent.count, codes: self.codes.clone(), ..Balance::default() };
        for number in 0..sent.count {
            let rewritten = sent.rewritten.get(&number).copied().unwrap_or_default();
            let extra = self.copies(number).saturating_sub(1 + rewritten);
            balance.duplicated += extra;
            balance.unmarked += if self.marked.contains(&number) { 0 } else { extra };
            let (outputs, dead) = (self.outputs.contains_key(&number), self.dead.contains_key(&number));
            let is_left = left.contains(&number);
            match meant(number) {
                Meant::Filtered if outputs || dead => balance.wrong.push(number),
                Meant::DeadLetter if outputs => balance.wrong.push(number),
                Meant::Filtered if is_left => balance.left.push(number),
                Meant::Filtered => balance.filtered += 1,
                _ if self.times(number) == 0 && is_left => balance.left.push(number),
                _ if self.times(number) == 0 => balance.lost.push(number),
                Meant::DeadLetter => balance.dead_lettered += 1,
                Meant::Outputs(_) if dead => balance.refused.push(number),
                Meant::Outputs(_) => balance.forwarded += 1,
            }
        }
        // Nothing may arrive that was never sent.
        let strange = self.outputs.keys().chain(self.dead.keys()).filter(|number| **number >= sent.count);
        balance.wrong.extend(strange);
        // Settled, and there again: it would be carried out once more.
        let again = left.len() as u32 - balance.left.len() as u32;
        (balance.duplicated, balance.unmarked) = (balance.duplicated + again, balance.unmarked + again);
        balance
    }
}

/// What the bodies of a ledger begin with: no other test has it.
fn mark(one: &One) -> String {
    one.from.trim_start_matches("/queue/").to_owned()
}

/// The number in `mark 000017` and in `mark 000017/2`.
fn number(text: &str) -> u32 {
    let number = text.rsplit_once(' ').and_then(|(_, rest)| rest.split('/').next()?.parse().ok());
    number.unwrap_or_else(|| panic!("{text:?} was never sent"))
}

/// What became of the numbers.
#[derive(Debug, Default)]
pub struct Balance {
    pub sent: u32,
    pub forwarded: u32,
    pub filtered: u32,
    pub dead_lettered: u32,
    /// Neither arrived nor with its broker.
    pub lost: Vec<u32>,
    /// How often a number was carried out once more, or would be, beside what the producer itself wrote again.
    pub duplicated: u32,
    /// Numbers that are with the broker, not settled.
    pub left: Vec<u32>,
    /// Numbers that the broker has taken away by itself.
    pub taken: Vec<u32>,
    /// Numbers that should have been forwarded and are dead letters.
    pub refused: Vec<u32>,
    /// Numbers of which something arrived that should not have.
    pub wrong: Vec<u32>,
    /// How many of these are of numbers of which nothing says that it was sent again.
    pub unmarked: u32,
    /// The dead letters by their codes.
    pub codes: BTreeMap<String, usize>,
}

impl Balance {
    /// Everything was settled and nothing lost. The duplicates are for the caller to explain.
    #[track_caller]
    pub fn is_even(&self) {
        let settled = self.forwarded + self.filtered + self.dead_lettered + self.refused.len() as u32;
        assert_eq!((self.lost.len(), self.left.len(), self.taken.len()), (0, 0, 0), "{self}");
        assert_eq!(self.wrong, [0; 0], "{self}");
        assert_eq!(self.sent, settled, "{self}");
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, forwarded, filtered, dead_lettered, duplicated, unmarked, .. } = self;
        write!(
            f,
            "{sent} sent: {forwarded} forwarded, {filtered} filtered, {dead_lettered} dead-lettered {:?}, {} refused, \
             {} lost {:?}, {duplicated} duplicated ({unmarked} unmarked), {} left {:?}, {} wrong {:?}, \
             {} taken away by the broker",
            self.codes,
            self.refused.len(),
            self.lost.len(),
            first(&self.lost),
            self.left.len(),
            first(&self.left),
            self.wrong.len(),
            first(&self.wrong),
            self.taken.len(),
        )
    }
}

fn first(numbers: &[u32]) -> &[u32] {
    &numbers[..numbers.len().min(20)]
}

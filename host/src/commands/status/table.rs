//! The page of `status`: a line on the host, its processors, its queues, its last changes.
//!
//! Called by [`super`] with what it saw; no terminal and no clock here. Whatever a host says becomes one line.

use super::{
    Seen,
    cells::{Cell, Style, age, cut, latency, number, paint, rate},
    columns::{Column, EXTRA, draw, numbers, words},
    view::{ConnectionView, EntryView, HostView, ProcessorView, QueueView},
};
use crate::commands::ask::shown;

/// The last changes that are shown.
const CHANGES: usize = 5;

/// What fits.
pub(super) struct Page {
    pub(super) width: usize,
    /// Lines; none: as many as there are.
    pub(super) height: Option<usize>,
    pub(super) colours: bool,
}

/// A processor, and what it was a moment ago.
struct Row<'a> {
    now: &'a ProcessorView,
    queue: Option<&'a QueueView>,
    /// Deliveries that ended in a second.
    rate: Option<f64>,
    /// Whether it is worth a look.
    alarming: bool,
}

fn processor_columns<'a>() -> [Column<Row<'a>>; 17] {
    [
        words("processor", "processor", 0, |row| Cell::plain(shown(&row.now.name))),
        words("vo", "vo", 6, |row| Cell::plain(shown(&row.now.vo))),
        words("generation", "gen", 0, generation),
        numbers("rate/s", "/s", 0, |row| Cell::plain(row.rate.map_or("-".into(), rate))),
        numbers("received", "recv", 3, |row| count(row.now.messages.received)),
        numbers("forwarded", "fwd", 1, |row| count(row.now.messages.forwarded)),
        numbers("filtered", "filt", 5, |row| count(row.now.messages.filtered)),
        numbers("dead", "dead", 0, |row| Cell::unwanted(row.now.messages.dead_lettered)),
        numbers("retried", "ret", 7, |row| count(row.now.messages.retried)),
        numbers("waiting", "wait", 1, |row| of_queue(row, |queue| queue.waiting)),
        numbers("held", "held", 2, |row| of_queue(row, |queue| queue.held)),
        numbers("in flight", "work", EXTRA, |row| count(row.now.messages.in_flight)),
        numbers("unconfirmed", "unc", EXTRA, |row| count(row.now.messages.unconfirmed)),
        numbers("outputs", "outs", EXTRA, |row| count(row.now.messages.outputs_confirmed)),
        numbers("p50", "p50", 8, |row| Cell::plain(latency(row.now.latency.p50_us))),
        numbers("p99", "p99", 2, |row| Cell::plain(latency(row.now.latency.p99_us))),
        numbers("lanes", "lane", 4, lanes),
    ]
}

fn queue_columns<'a>() -> [Column<(&'a QueueView, ConnectionView)>; 7] {
    [
        words("queue", "queue", 0, |(queue, _)| Cell::plain(shown(&queue.name))),
        words("server", "server", 2, |(queue, _)| Cell::plain(shown(&queue.server))),
        numbers("waiting", "wait", 0, |(queue, _)| count(queue.waiting)),
        numbers("held", "held", 0, |(queue, _)| count(queue.held)),
        numbers("bytes", "bytes", 1, |(queue, _)| count(queue.bytes)),
        numbers("addresses", "addr", 0, |(_, link)| addresses(link)),
        numbers("reconnects", "reconn", 0, |(_, link)| Cell::unwanted(link.reconnects)),
    ]
}

/// All lines of the page. `trouble`: why it is an old one.
pub(super) fn lines(now: &Seen, before: &Seen, trouble: Option<&str>, page: &Page) -> Vec<String> {
    let mut top = vec![host_line(&now.host, page)];
    top.extend(trouble.map(|trouble| paint(&cut(&shown(trouble), page.width), Style::Bad, page.colours).into_owned()));
    let changes = changes(now, page);
    let queues = queues(&now.host);
    let room = page.height.map(|height| height.saturating_sub(top.len() + changes.len() + 4));
    let for_queues = room.map(|room| (room / 3).max(2).max(room.saturating_sub(now.host.processors.len())));
    let queues = part(&queue_columns(), queues, for_queues, page);
    let for_processors = room.map(|room| room.saturating_sub(queues.len().saturating_sub(1)).max(2));
    top.push(String::new());
    top.extend(part(&processor_columns(), rows(now, before), for_processors, page));
    if !now.host.queues.is_empty() {
        top.push(String::new());
        top.extend(queues);
    }
    top.extend(changes);
    top.truncate(page.height.unwrap_or(usize::MAX));
    top
}

/// A table with as many rows as have room, those of the highest rank, and how many have not.
fn part<T: Ranked>(columns: &[Column<T>], rows: Vec<T>, room: Option<usize>, page: &Page) -> Vec<String> {
    let room = room.unwrap_or(usize::MAX);
    let left_out = if rows.len() > room { rows.len() + 1 - room } else { 0 };
    let mut rows: Vec<_> = rows.into_iter().enumerate().collect();
    if left_out > 0 {
        rows.sort_by(|(_, a), (_, b)| b.rank().total_cmp(&a.rank()));
        rows.truncate(rows.len() - left_out);
        // They stay where they are from one picture to the next.
        rows.sort_by_key(|(place, _)| *place);
    }
    let rows: Vec<T> = rows.into_iter().map(|(_, row)| row).collect();
    let mut lines = draw(columns, &rows, page.width, page.colours);
    if left_out > 0 {
        lines.push(format!("\u{2026} {left_out} more"));
    }
    lines
}

/// What is shown first where not all has room.
trait Ranked {
    fn rank(&self) -> f64;
}

impl Ranked for Row<'_> {
    fn rank(&self) -> f64 {
        if self.alarming { f64::INFINITY } else { self.rate.unwrap_or_default() }
    }
}

impl Ranked for (&QueueView, ConnectionView) {
    fn rank(&self) -> f64 {
        let (queue, link) = self;
        if link.addresses.iter().all(|address| address.up) {
            (queue.waiting + queue.held) as f64
        } else {
            f64::INFINITY
        }
    }
}

fn host_line(host: &HostView, page: &Page) -> String {
    let (state, style) = match host.missing.as_slice() {
        [] if host.ready => ("ready".to_owned(), Style::Good),
        [] => ("not ready".to_owned(), Style::Bad),
        [only] => (format!("not ready: {only}"), Style::Bad),
        [first, others @ ..] => (format!("not ready: {first}, and {} more", others.len()), Style::Bad),
    };
    let head = cut(&shown(&format!("stompbox {}  up {}  ", host.version, age(host.uptime_ms))), page.width);
    let left = page.width - head.chars().count();
    format!("{head}{}", paint(&cut(&shown(&state), left), style, page.colours))
}

/// The processors, with what they do in a second.
fn rows<'a>(now: &'a Seen, before: &Seen) -> Vec<Row<'a>> {
    let millis = now.host.uptime_ms.saturating_sub(before.host.uptime_ms);
    let row = |processor: &'a ProcessorView| {
        let earlier = before.host.processors.iter().find(|earlier| earlier.name == processor.name);
        let since = |value: fn(&ProcessorView) -> u64| Some(value(processor).saturating_sub(value(earlier?)));
        let died = since(|processor| processor.messages.dead_lettered).unwrap_or_default() > 0;
        let on_trial = processor.generations.iter().any(|generation| generation.standing == "on-trial");
        Row {
            now: processor,
            queue: now.host.queues.iter().find(|queue| Some(&queue.name) == processor.in_queue.as_ref()),
            rate: since(ended).filter(|_| millis > 0).map(|ended| ended as f64 * 1e3 / millis as f64),
            alarming: died || on_trial || processor.paused,
        }
    };
    now.host.processors.iter().map(row).collect()
}

/// Deliveries that have ended, or calls of what works by the clock.
fn ended(processor: &ProcessorView) -> u64 {
    let did = &processor.messages;
    match processor.in_queue {
        Some(_) => did.forwarded + did.filtered + did.dead_lettered + did.possible_duplicates,
        None => processor.calls,
    }
}

/// The generation on trial before the stable one: `7 3f9a1c`, `8 77aa01 trial 50%`, `7 3f9a1c paused`.
fn generation(row: &Row<'_>) -> Cell {
    let of = |standing: &str| row.now.generations.iter().find(|generation| generation.standing == standing);
    let (found, on_trial) = (of("on-trial").or(of("stable")), of("on-trial").is_some());
    let Some(generation) = found else { return Cell::plain(if row.now.paused { "paused" } else { "-" }) };
    let digest: String = shown(&generation.digest).chars().take(6).collect();
    let mut text = format!("{} {digest}", generation.number);
    if on_trial {
        text.push_str(&format!(" trial {}%", generation.trial_percent));
    }
    if row.now.paused {
        text.push_str(" paused");
    }
    Cell::new(text, if on_trial || row.now.paused { Style::Notice } else { Style::Plain })
}

fn lanes(row: &Row<'_>) -> Cell {
    let lanes = &row.now.lanes;
    let busy = lanes.iter().filter(|lane| lane.doing == "processing").count();
    Cell::plain(if lanes.is_empty() { "-".to_owned() } else { format!("{busy}/{}", lanes.len()) })
}

fn count(count: u64) -> Cell {
    Cell::plain(number(count))
}

fn of_queue(row: &Row<'_>, value: fn(&QueueView) -> u64) -> Cell {
    Cell::plain(row.queue.map_or("-".to_owned(), |queue| number(value(queue))))
}

/// The queues, each with the connections that it is read over.
fn queues(host: &HostView) -> Vec<(&QueueView, ConnectionView)> {
    let connections = || host.servers.iter().flat_map(|server| &server.connections);
    let of = |queue: &QueueView| connections().find(|link| link.queue.as_ref() == Some(&queue.name)).cloned();
    host.queues.iter().map(|queue| (queue, of(queue).unwrap_or_default())).collect()
}

fn addresses(link: &ConnectionView) -> Cell {
    let up = link.addresses.iter().filter(|address| address.up).count();
    let text = format!("{up}/{} up", link.addresses.len());
    Cell::new(text, if up == link.addresses.len() && up > 0 { Style::Good } else { Style::Bad })
}

/// The last changes, the newest first.
fn changes(now: &Seen, page: &Page) -> Vec<String> {
    let line = |entry: &EntryView| {
        let ago = age(now.host.now_ms.saturating_sub(entry.time_ms));
        let text = cut(&shown(&format!("{ago:>6} ago  {}  {}", entry.who, entry.change)), page.width);
        let style = match entry.change.what.as_str() {
            "refused" | "rolled-back" => Style::Bad,
            "on-trial" | "paused" | "draining" => Style::Notice,
            _ => Style::Plain,
        };
        paint(&text, style, page.colours).into_owned()
    };
    let entries: Vec<_> = now.changes.entries.iter().take(CHANGES).map(line).collect();
    if entries.is_empty() {
        return entries;
    }
    let title = paint("last changes", Style::Title, page.colours).into_owned();
    [String::new(), title].into_iter().chain(entries).collect()
}

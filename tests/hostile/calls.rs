//! What a guest does with its time, its memory and the host's functions while it has a message.

use serde_json::{Value, json};

use super::{Attack, Fate, end, survive};

/// More than a spinning guest uses up in the time that it has.
const ENDLESS: u64 = 1_000_000_000_000;

/// More lanes than there are CPU permits, all busy until their deadline.
fn busy(class: &'static str, module: &str) -> Attack {
    let lanes = std::thread::available_parallelism().unwrap().get() + 2;
    let limits = json!({"fuel": ENDLESS, "time_ms": 700});
    let extra = json!({"module": module, "n_threads": lanes, "limits": limits, "retry": {"max_attempts": 1}});
    Attack::new(class, extra, Fate::Dead("deadline"))
}

fn hostile(class: &'static str, limits: Value, fate: Fate) -> Attack {
    Attack::new(class, json!({"limits": limits}), fate)
}

#[test]
fn a_spin_ends_at_its_fuel() {
    let told = survive(&hostile("Spin", json!({"fuel": 300_000_000}), Fate::Dead("fuel")));
    assert!(told.iter().all(|detail| detail.contains("300000000")), "{told:?}");
}

#[test]
fn spins_on_all_lanes_end_at_their_deadline() {
    survive(&busy("Spin", "hostile"));
}

#[test]
fn sleeps_of_an_hour_on_all_lanes_end_at_their_deadline() {
    survive(&busy("Sleep", "hostile"));
}

#[test]
fn a_memory_bomb() {
    survive(&hostile("MemoryBomb", json!({}), Fate::Dead("memory")));
}

#[test]
fn a_table_bomb() {
    let told = survive(&Attack::raw("table_bomb", json!({}), Fate::Dead("trap")));
    let limit = "table elements of 100000";
    assert!(told.iter().all(|detail| detail.contains(limit)), "{told:?}");
}

#[test]
fn a_stack_overflow() {
    let told = survive(&hostile("StackOverflow", json!({}), Fate::Dead("trap")));
    assert!(told.iter().all(|detail| detail.contains("call stack exhausted")), "{told:?}");
}

#[test]
fn a_log_flood_is_cut() {
    let attack = hostile("LogFlood", json!({}), Fate::Forwarded);
    let pair = attack.run();
    let (guest, given) = (pair.host.status().processors[0].guest.clone(), pair.host.did("one").ended());
    // 10,000 lines of a KiB, of which each message may have 64 KiB.
    assert!(guest.dropped_log_bytes() > given * 9_000_000, "{guest:?}");
    end(pair, attack.fate);
}

#[test]
fn lines_of_half_a_million_fields_cost_what_they_are_worth() {
    survive(&Attack::raw("log_bomb", json!({}), Fate::Dead("fuel")));
}

#[test]
fn a_counter_flood_is_cut() {
    let attack = hostile("CounterFlood", json!({"fuel": 10_000_000_000_u64}), Fate::Forwarded);
    let pair = attack.run();
    let (guest, given) = (pair.host.status().processors[0].guest.clone(), pair.host.did("one").ended());
    let counted = guest.snapshot();
    assert_eq!((counted.len(), guest.refused()), (50, given * (1_000_000 - 50)));
    assert!(counted.iter().all(|(_, count)| *count == u64::MAX), "{counted:?}");
    end(pair, attack.fate);
}

#[test]
fn timers_that_are_never_given_back() {
    let told = survive(&Attack::raw("leak", json!({}), Fate::Dead("trap")));
    assert!(told.iter().all(|detail| detail.contains("no free keys")), "{told:?}");
}

#[test]
fn a_million_timers_at_once() {
    let told = survive(&Attack::raw("poll_flood", json!({}), Fate::Dead("trap")));
    assert!(told.iter().all(|detail| detail.contains("handle limit exceeded")), "{told:?}");
}

#[test]
fn more_random_bytes_than_there_are() {
    let told = survive(&Attack::raw("random_most", json!({}), Fate::Dead("trap")));
    assert!(told.iter().all(|detail| detail.contains("exceeds limit 65536")), "{told:?}");
}

#[test]
fn a_random_flood() {
    survive(&busy("Raw", "random_flood"));
}

#[test]
fn random_bytes_cost_fuel() {
    survive(&Attack::raw("random_flood", json!({}), Fate::Dead("fuel")));
}

#[test]
fn a_function_s_name_that_grows_when_it_is_read() {
    survive(&Attack::raw("mangled", json!({}), Fate::Dead("trap")));
}

#[test]
fn a_function_named_after_another_failure() {
    let told = survive(&Attack::raw("misnamed", json!({}), Fate::Dead("trap")));
    assert!(told.iter().all(|detail| detail.contains("unreachable")), "{told:?}");
}

#[test]
fn log_text_that_is_none() {
    let told = survive(&Attack::raw("log_not_utf8", json!({}), Fate::Dead("trap")));
    assert!(told.iter().all(|detail| detail.contains("utf-8")), "{told:?}");
}

#[test]
fn instances_that_overwrite_themselves_are_not_used_again() {
    let bodies = ["good", "corrupt all", "good", "corrupt some", "good"].map(str::to_owned).to_vec();
    let attack = Attack { bodies, ..hostile("Corrupt", json!({}), Fate::Mended("trap")) };
    let pair = attack.run();
    let (one, out) = (pair.host.did("one"), pair.target.drain(&pair.bad.to));
    // Each says how many its instance has seen: a fresh one, which the second attempt gets, begins with one again.
    let seen: Vec<u64> = out.iter().map(|output| output.text().parse().unwrap()).collect();
    let fresh = seen.iter().filter(|seen| **seen == 1).count() as u64;
    let failures: u64 = one.failures.get();
    assert_eq!((seen.len() as u64, fresh), (one.ended(), failures + 1), "{seen:?}");
}

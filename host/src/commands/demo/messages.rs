//! Task and job status messages as PanDA sends them, made from a seed: names, fields and the mix of
//! statuses are those of the real ones. One in forty is malformed.

use bytes::Bytes;
use serde_json::{Value, json};

/// The statuses of a task's life, those that the status report does not forward among them.
const TASK: &[&str] = &[
    "registered",
    "defined",
    "assigning",
    "ready",
    "pending",
    "scouting",
    "scouted",
    "running",
    "prepared",
    "done",
    "finished",
    "failed",
    "aborting",
    "aborted",
    "broken",
    "paused",
    "throttled",
    "exhausted",
];
const JOB: &[&str] = &[
    "pending",
    "defined",
    "waiting",
    "assigned",
    "activated",
    "sent",
    "starting",
    "running",
    "holding",
    "transferring",
    "merging",
    "throttled",
    "finished",
    "failed",
    "cancelled",
    "closed",
];
const SITES: &[&str] = &["CERN-PROD", "BNL_PROD", "FZK-LCG2", "TRIUMF", "SLAC_Rubin", "LANCS_Rubin"];
const COMPONENTS: &[&str] = &["pilot", "exe", "sup", "ddm", "brokerage", "jobdispatcher", "taskbuffer"];

/// Makes messages.
pub(super) struct Generator {
    random: fastrand::Rng,
    made: u64,
}

impl Generator {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), made: 0 }
    }

    /// The next body.
    pub(super) fn next(&mut self) -> Bytes {
        self.made += 1;
        let good = if self.random.u8(..10) < 2 { self.task() } else { self.job() };
        if self.made.is_multiple_of(40) { self.malformed(good) } else { Bytes::from(good.to_string()) }
    }

    fn pick(&mut self, from: &[&'static str]) -> &'static str {
        self.random.choice(from).copied().unwrap_or_default()
    }

    fn task(&mut self) -> Value {
        let status = self.pick(TASK);
        json!({"msg_type": "task_status", "taskid": self.random.u32(29_000_000..31_000_000), "status": status, "timestamp": self.now()})
    }

    fn job(&mut self) -> Value {
        let (status, site) = (self.pick(JOB), self.pick(SITES));
        let failed = status == "failed";
        let mut job = json!({
            "msg_type": "job_status",
            "jobid": self.random.u64(5_000_000_000..6_000_000_000),
            "taskid": self.random.u32(29_000_000..31_000_000),
            "status": status,
            "timestamp": self.now(),
            "computingsite": site,
            "inputs": [format!("EVNT.{:08}._{:06}.pool.root.1", self.random.u32(..99_999_999), self.random.u32(..999_999))],
        });
        if let Some(fields) = job.as_object_mut() {
            for component in COMPONENTS {
                let broken = failed && *component == "pilot";
                fields.insert(format!("{component}errorcode"), json!(if broken { 1305 } else { 0 }));
                fields.insert(
                    format!("{component}errordiag"),
                    if broken { json!("failed to execute payload") } else { Value::Null },
                );
            }
        }
        job
    }

    fn now(&self) -> u64 {
        1_718_000_000 + self.made / 50
    }

    /// What senders get wrong: cut off, no JSON at all, another type, a field missing, a wrong status.
    fn malformed(&mut self, mut good: Value) -> Bytes {
        let text = good.to_string();
        match self.random.u8(..6) {
            0 => Bytes::from(text.get(..text.len() / 2).unwrap_or_default().to_owned()),
            1 => Bytes::from_static(b"status=finished jobid=5123456789"),
            2 => Bytes::from_static(b"[1, 2, 3]"),
            3 => Bytes::from_static(b"{\"msg_type\": \"job_status\", \"jobid\": \"\xff\xfe\"}"),
            4 => {
                if let Some(fields) = good.as_object_mut() {
                    fields.remove("status");
                }
                Bytes::from(good.to_string())
            }
            _ => Bytes::from(text.replacen("\"taskid\":", "\"taskid\":\"T\",\"was\":", 1)),
        }
    }
}

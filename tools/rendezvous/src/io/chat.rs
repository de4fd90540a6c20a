//! `rendezvous join`: a chat between the members of a session, directly.

use std::collections::BTreeMap;
use std::io::{BufRead as _, Read as _};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use libflow::{Cube, Flow, GroupEvent, Qos, RecvStream, SendStream, Stack, StreamError};
use proto::v1;
use service::print;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tool::{Admin, Stop};

use super::NAME;
use super::screen::{self, Screen};
use crate::cli::Join;
use crate::machine::chat::{self, LINE, Route, Typed};

/// irmd answers a look within this time.
const LOOK_WITHIN: Duration = Duration::from_secs(2);
/// Lines that wait for a member that is slow; further ones it does not get.
const LINES: usize = 64;
/// What was said last has so long to arrive.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What comes of a task.
enum News {
    /// A line that a member said.
    Heard(String, Vec<u8>),
    /// How the flow of somebody who joined goes.
    Came(String, Arc<Flow>, Route),
    /// How all flows go.
    Who(Vec<(String, Route)>),
}

/// Chats until the input ends.
pub(super) fn join(join: &Join) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("there is no runtime")?;
    let done = runtime.block_on(chat(join));
    // A read from the terminal may still be under way, and never return.
    runtime.shutdown_background();
    done
}

async fn chat(join: &Join) -> anyhow::Result<()> {
    let mut stop = Stop::new().context("signals cannot be caught")?;
    let stack = Stack::find(join.run_dir.as_deref())?;
    let run_dir = proto::RunDir::find(Some(stack.run_dir()))?;
    let admin = Admin::dial(&run_dir).await.map_err(anyhow::Error::msg)?;
    let member = join.member.clone().unwrap_or_else(own_name);
    let group = format!("{}.chat", join.session);
    let mut joining = stack.join(&group, &member).qos(Qos::from(Cube::Stream)).most(join.most.into());
    if let Some(layer) = layer(&admin, join).await? {
        joining = joining.layer(&layer);
    }
    let mut group = joining.await?;
    let (screen, mut written) = screen::on(std::io::stdout())?;
    screen.show(chat::note(&format!("you are {member} in {}; /who shows the others, /quit leaves", group.name())));
    let (tell, mut news) = mpsc::channel(LINES);
    let mut typed = read_input()?;
    let mut room = Room {
        own: member,
        admin,
        members: BTreeMap::new(),
        tasks: JoinSet::new(),
        tell,
        screen: screen.clone(),
        asked: false,
    };
    loop {
        tokio::select! {
            () = stop.asked() => break,
            over = written.over() => {
                over?;
                break;
            }
            event = group.next() => match event {
                Some(event) => room.event(event),
                None => anyhow::bail!("irmd does not let this program serve its name any more; see irm name list"),
            },
            Some(news) = news.recv() => room.news(news),
            line = typed.recv() => match line.map(|line| chat::typed(&line)) {
                None | Some(Typed::Quit) => break,
                Some(Typed::Nothing) => {}
                Some(Typed::Help(words)) => screen.show(chat::note(&words)),
                Some(Typed::Who) => room.who(),
                Some(Typed::Say(line)) => room.say(&line),
            },
            Some(_) = room.tasks.join_next() => {}
        }
    }
    room.leave().await;
    written.finish(LAST_WORDS).await;
    Ok(())
}

fn own_name() -> String {
    let user = std::env::var("USER").unwrap_or_default();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    chat::name_of([user.as_str(), host.as_str()])
}

/// The layer whose members are the session's; with none, all layers, and a word of it.
async fn layer(admin: &Admin, join: &Join) -> anyhow::Result<Option<String>> {
    if join.layer.is_some() {
        return Ok(join.layer.clone());
    }
    let (mut client, path) = (admin.client.clone(), admin.path());
    let listed = tool::answer(&path, LOOK_WITHIN, client.ipcp_list(v1::Empty {})).await;
    let mut rows = listed.map_err(|trouble| anyhow::Error::msg(trouble.words()))?;
    let mut found = None;
    while let Some(row) = tool::next(&path, LOOK_WITHIN, &mut rows).await.map_err(|t| anyhow::Error::msg(t.words()))? {
        let of_session = row.config.is_some_and(|config| config.session == join.session);
        found = found.or(of_session.then_some(row.layer));
    }
    if found.is_none() {
        print::error(
            NAME,
            &format!(
                "no layer of this host is enrolled in a session {}: only members on this host and in static tables are found; \
                 irm ipcp enroll brings the others",
                join.session
            ),
        );
    }
    Ok(found)
}

/// Lines of standard input, read by a thread of its own: a read from a terminal cannot be given up.
fn read_input() -> anyhow::Result<mpsc::Receiver<String>> {
    let (tell, lines) = mpsc::channel(1);
    let read = move || {
        let mut input = std::io::stdin().lock();
        let mut line = Vec::new();
        // Longer ones in pieces.
        while input.by_ref().take(LINE as u64).read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            if tell.blocking_send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
            line.clear();
        }
    };
    std::thread::Builder::new().name("input".into()).spawn(read).context("there is no thread")?;
    Ok(lines)
}

/// Who is there.
struct Room {
    own: String,
    admin: Admin,
    members: BTreeMap<String, Present>,
    tasks: JoinSet<()>,
    tell: mpsc::Sender<News>,
    screen: Screen,
    /// Somebody asked who is there, and is not answered yet.
    asked: bool,
}

struct Present {
    flow: Arc<Flow>,
    /// What it is to hear.
    say: mpsc::Sender<Arc<str>>,
    /// Lines were dropped, and that was told.
    slow: bool,
    /// It was told that it joined.
    told: bool,
}

impl Room {
    fn event(&mut self, event: GroupEvent) {
        match event {
            GroupEvent::Joined { member, flow } => {
                let (say, lines) = mpsc::channel(LINES);
                self.tasks.spawn(speak(flow.clone(), lines));
                let (admin, tell, from, of) = (self.admin.clone(), self.tell.clone(), member.clone(), flow.clone());
                self.tasks.spawn(async move {
                    let route = route(&admin, &of).await;
                    if tell.send(News::Came(from.clone(), of.clone(), route)).await.is_ok() {
                        hear(from, of, tell).await;
                    }
                });
                self.members.insert(member, Present { flow, say, slow: false, told: false });
            }
            GroupEvent::Left { member, why } => {
                if let Some(Present { flow, told: false, .. }) = self.members.remove(&member) {
                    self.screen.show(known(&flow).joined(&member));
                }
                self.screen.show(chat::note(&format!("{member} left: {why}")));
            }
            GroupEvent::Unreached { member, why } => {
                self.screen.show(chat::note(&format!("{member} is not reached, and tried again: {why}")));
            }
        }
    }

    fn news(&mut self, news: News) {
        match news {
            News::Heard(member, line) => self.screen.show(chat::heard(&member, &line)),
            News::Came(member, flow, route) => {
                let here = self.members.get_mut(&member).filter(|present| Arc::ptr_eq(&present.flow, &flow));
                if let Some(present) = here {
                    present.told = true;
                    self.screen.show(route.joined(&member));
                }
            }
            News::Who(rows) => {
                self.asked = false;
                let rows = rows.iter().map(|(member, route)| (member.as_str(), route.clone()));
                self.screen.show(chat::who(&self.own, rows));
            }
        }
    }

    /// Who is there, and how each is reached: asked of irmd all at once. Asked again before that is answered, it is one answer.
    fn who(&mut self) {
        if std::mem::replace(&mut self.asked, true) {
            return;
        }
        let mut asked = JoinSet::new();
        for (member, present) in &self.members {
            let (admin, member, flow) = (self.admin.clone(), member.clone(), present.flow.clone());
            asked.spawn(async move { (member, route(&admin, &flow).await) });
        }
        let tell = self.tell.clone();
        self.tasks.spawn(async move {
            let mut rows = asked.join_all().await;
            rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            let _ = tell.send(News::Who(rows)).await;
        });
    }

    /// Says a line to all; who does not listen holds nobody up.
    fn say(&mut self, line: &str) {
        if self.members.is_empty() {
            self.screen.show(chat::note("nobody is here to hear that"));
        }
        let line: Arc<str> = format!("{line}\n").into();
        for (member, present) in &mut self.members {
            let full = matches!(present.say.try_send(line.clone()), Err(mpsc::error::TrySendError::Full(_)));
            if full && !present.slow {
                self.screen.show(chat::note(&format!("{member} is slow and misses lines")));
            }
            present.slow = full;
        }
    }

    /// What was said arrives first, if that does not take long.
    async fn leave(mut self) {
        self.members.clear();
        drop(self.tell);
        let _ = tokio::time::timeout(LAST_WORDS, async { while self.tasks.join_next().await.is_some() {} }).await;
    }
}

/// How a member is reached now: a relayed flow may have moved.
async fn route(admin: &Admin, flow: &Flow) -> Route {
    let (mut client, path) = (admin.client.clone(), admin.path());
    let request = v1::FlowShowRequest { flow_id: flow.id().0 };
    let shown = tool::answer(&path, LOOK_WITHIN, client.flow_show(request)).await.unwrap_or_default();
    let known = known(flow);
    // irmd may be away for a moment.
    let address = if shown.peer_address.is_empty() { known.address } else { shown.peer_address };
    Route { way: shown.way, address, round_trip: known.round_trip }
}

/// What the flow itself knows of that: where it began.
fn known(flow: &Flow) -> Route {
    let round_trip = flow.path().map(|path| path.rtt).filter(|time| !time.is_zero());
    Route { way: String::new(), address: flow.peer().address.clone(), round_trip }
}

/// Each side says its lines on a stream of its own.
async fn speak(flow: Arc<Flow>, mut lines: mpsc::Receiver<Arc<str>>) {
    let Ok(stream) = flow.open_stream().await else { return };
    let mut send: SendStream = stream.send;
    while let Some(line) = lines.recv().await {
        if send.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
    if send.finish().is_ok() {
        let _ = send.stopped().await;
    }
}

async fn hear(member: String, flow: Arc<Flow>, tell: mpsc::Sender<News>) {
    let stream: Result<_, StreamError> = flow.accept_stream().await;
    let Ok(stream) = stream else { return };
    let recv: RecvStream = stream.recv;
    let mut reader = BufReader::new(recv);
    loop {
        let mut line = Vec::new();
        let read = (&mut reader).take(LINE as u64).read_until(b'\n', &mut line).await;
        if !read.is_ok_and(|read| read > 0) || tell.send(News::Heard(member.clone(), line)).await.is_err() {
            return;
        }
    }
}

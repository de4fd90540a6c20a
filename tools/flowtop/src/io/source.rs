//! The task that asks irmd: finds it, loses it, finds it again.

use proto::RunDir;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::irmd::Irmd;
use crate::machine::screen::Ask;
use crate::machine::told::Told;

/// Questions under way, and answers that wait to be looked at.
const QUEUE: usize = 16;

/// The task's ends for its user. Its end ends the task.
pub(super) struct Source {
    /// Questions.
    pub(super) asks: mpsc::Sender<Ask>,
    /// Answers, one for each question, and refusals.
    pub(super) told: mpsc::Receiver<Told>,
    _tasks: JoinSet<()>,
}

/// Starts the task. Who follows hears of refusals as they come; who does not hears those that irmd remembers before the
/// answer to the first question.
pub(super) fn start(run_dir: &RunDir, follow: bool) -> Source {
    let (asks, asked) = mpsc::channel(QUEUE);
    let (tell, told) = mpsc::channel(QUEUE);
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(Asked { run_dir: run_dir.clone(), follow, tell, irmd: None, refusals: JoinSet::new() }, asked));
    Source { asks, told, _tasks: tasks }
}

struct Asked {
    run_dir: RunDir,
    follow: bool,
    tell: mpsc::Sender<Told>,
    irmd: Option<Irmd>,
    /// At most one task, which follows refusals.
    refusals: JoinSet<()>,
}

async fn serve(mut here: Asked, mut asked: mpsc::Receiver<Ask>) {
    while let Some(ask) = asked.recv().await {
        let told = here.answer(ask).await.unwrap_or_else(|why| {
            here.irmd = None;
            here.refusals.abort_all();
            Told::Lost(why)
        });
        if here.tell.send(told).await.is_err() {
            return;
        }
    }
}

impl Asked {
    async fn answer(&mut self, ask: Ask) -> Result<Told, String> {
        let irmd = self.reach(matches!(ask, Ask::Counts)).await?;
        Ok(match ask {
            Ask::Counts => {
                let (host, counts) = irmd.counts().await?;
                Told::Counts(Box::new(host), counts)
            }
            Ask::List => Told::Rows(irmd.list().await?),
            Ask::Show(ids) => Told::Rows(irmd.show(ids).await?),
            Ask::Detail(id) => Told::Detail(id, Box::new(irmd.detail(id).await?)),
            Ask::End(id) => Told::Ended(id, irmd.end(id).await?),
        })
    }

    /// irmd, dialled anew if it was lost, and its refusals followed; again, with `hear`, where that has come to an end.
    async fn reach(&mut self, hear: bool) -> Result<&mut Irmd, String> {
        while self.refusals.try_join_next().is_some() {}
        let new = self.irmd.is_none();
        let mut irmd = match self.irmd.take() {
            Some(irmd) => irmd,
            None => Irmd::dial(&self.run_dir).await?,
        };
        if new || (hear && self.follow && self.refusals.is_empty()) {
            self.hear(&mut irmd).await?;
        }
        Ok(self.irmd.insert(irmd))
    }

    async fn hear(&mut self, irmd: &mut Irmd) -> Result<(), String> {
        let began = Told::Began(irmd.pid().await?);
        let mut refusals = irmd.refusals(self.follow).await?;
        let tell = self.tell.clone();
        let hear = async move {
            if tell.send(began).await.is_err() {
                return;
            }
            while let Some(told) = refusals.next().await {
                if tell.send(told).await.is_err() {
                    return;
                }
            }
        };
        if self.follow {
            self.refusals.spawn(hear);
        } else {
            hear.await;
        }
        Ok(())
    }
}

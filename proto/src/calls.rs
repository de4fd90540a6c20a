//! The calls that travel in streams: which messages belong to which, see "Calls in streams" in `schema/types.proto`.

use prost::Message;

use crate::v1::{self, Failure, FailureKind};

/// One kind of call: its question, its answer, and the messages both travel in.
pub trait Calls: Send + Sync + 'static {
    /// What is asked.
    type Request: Send;
    /// What is answered when nothing failed.
    type Reply: Send;
    /// The message a question travels in.
    type Call: Message + Default + 'static;
    /// The message an answer travels in.
    type Answer: Message + Default + 'static;

    /// The message for a question; without one, its caller no longer waits for `call`.
    fn call(call: u64, request: Option<Self::Request>) -> Self::Call;
    /// The reverse of [`call`](Calls::call).
    fn called(message: Self::Call) -> (u64, Option<Self::Request>);
    /// The message for an answer.
    fn answer(call: u64, answer: Result<Self::Reply, Failure>) -> Self::Answer;
    /// The reverse of [`answer`](Calls::answer). An answer that says nothing is a failure.
    fn answered(message: Self::Answer) -> (u64, Result<Self::Reply, Failure>);
}

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident: $request:ident, $reply:ident in $call:ident, $answer:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl Calls for $name {
            type Request = v1::$request;
            type Reply = v1::$reply;
            type Call = v1::$call;
            type Answer = v1::$answer;

            fn call(call: u64, request: Option<v1::$request>) -> v1::$call {
                v1::$call { call, request }
            }

            fn called(message: v1::$call) -> (u64, Option<v1::$request>) {
                (message.call, message.request)
            }

            fn answer(call: u64, answer: Result<v1::$reply, Failure>) -> v1::$answer {
                match answer {
                    Ok(reply) => v1::$answer { call, reply: Some(reply), failure: None },
                    Err(failure) => v1::$answer { call, reply: None, failure: Some(failure) },
                }
            }

            fn answered(message: v1::$answer) -> (u64, Result<v1::$reply, Failure>) {
                let answer = match (message.failure, message.reply) {
                    (Some(failure), _) => Err(failure),
                    (None, Some(reply)) => Ok(reply),
                    (None, None) => Err(Failure::new(FailureKind::Internal, NOTHING)),
                };
                (message.call, answer)
            }
        }
    )*};
}

const NOTHING: &str = "the answer says nothing; run programs and daemons of one release";

calls! {
    /// `Irm.FlowAlloc`.
    FlowAllocs: FlowAllocRequest, FlowHandle in FlowAllocCall, FlowAllocAnswer;
    /// `Irm.FlowAccept`.
    FlowAccepts: FlowAcceptRequest, FlowHandle in FlowAcceptCall, FlowAcceptAnswer;
    /// `Irm.FlowAnswer`.
    FlowAnswers: FlowAnswerRequest, Empty in FlowAnswerCall, FlowAnswerAnswer;
    /// `IrmForIpcp.FlowReqArr`.
    FlowReqArrs: FlowReqArrRequest, FlowReqArrReply in FlowReqArrCall, FlowReqArrAnswer;
    /// `Ipcp.Alloc`.
    Allocs: AllocRequest, AllocReply in AllocCall, AllocAnswer;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_survive_their_messages() {
        let reply = v1::AllocReply { token: vec![1; 16], ..v1::AllocReply::default() };
        for answer in [Ok(reply), Err(Failure::new(FailureKind::Refused, "no"))] {
            assert_eq!(Allocs::answered(Allocs::answer(7, answer.clone())), (7, answer));
        }
    }

    #[test]
    fn an_answer_that_says_nothing_is_a_failure() {
        let (call, answer) = Allocs::answered(v1::AllocAnswer { call: 3, ..v1::AllocAnswer::default() });
        assert_eq!((call, answer.unwrap_err().kind()), (3, FailureKind::Internal));
    }
}

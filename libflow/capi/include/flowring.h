/* Flowring: flows by name, for C.
 *
 * Flows and listeners are handles, ints from 0 up. Every call returns a number from 0 up, or one of the negative
 * FLOW_E… codes; flow_last_error() then says in a sentence what happened and what to do next. All calls may be made
 * from any thread; a handle may be used by several threads at once. After fork() a child may use the descriptors of
 * flow_fd() and nothing else, unless it execs.
 *
 * The daemon is found through FLOWRING_RUN_DIR, else /run/flowring for root, else XDG_RUNTIME_DIR/flowring.
 *
 * Link with -lflow.
 */
#ifndef FLOWRING_H
#define FLOWRING_H

#include <stddef.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

enum flow_error {
    FLOW_EHANDLE = -1,       /* no such flow or listener */
    FLOW_EINVAL = -2,        /* the arguments make no sense: a bad name, a null pointer, an empty SDU */
    FLOW_EUNKNOWN = -3,      /* no layer reaches the name */
    FLOW_EREFUSED = -4,      /* the accepting program said no */
    FLOW_ENOBODY = -5,       /* the name is known, nobody accepts */
    FLOW_ETIMEDOUT = -6,     /* the peer host did not answer, or nothing happened in time */
    FLOW_EUNREACHABLE = -7,  /* irmd is not running, or its IPC process is not */
    FLOW_EPERM = -8,         /* not permitted */
    FLOW_EGONE = -9,         /* the flow is over */
    FLOW_ETOOLONG = -10,     /* the SDU is longer than the flow carries: flow_sdu_limit() */
    FLOW_ETRUNCATED = -11,   /* the SDU was longer than the buffer; the rest is lost */
    FLOW_EEXHAUSTED = -12,   /* descriptors, ports or a quota ran out */
    FLOW_EUNSUPPORTED = -13, /* no such quality of service, no such layer */
    FLOW_EFAILED = -14,      /* anything else */
    FLOW_EDIRECTORY = -15,   /* a name server could not be asked, or said no: nothing is known of the name */
    FLOW_EUNTRUSTED = -16,   /* who answered is not who is trusted with the name */
    FLOW_EHANDSHAKE = -17,   /* the flow was allocated, and its handshake came to nothing */
    FLOW_ESTREAM = -18       /* a stream was reset, or ended with its flow: what came is incomplete */
};

/* What a flow is carried as. */
enum flow_qos {
    FLOW_RAW = 1,     /* bare datagrams, in clear */
    FLOW_MESSAGE = 2, /* encrypted messages: flow_read and flow_write, one message each */
    FLOW_STREAM = 3   /* encrypted, reliable byte streams, any number of them; and messages */
};

/* Allocates a raw flow to a name. Waits up to timeout_ms; 0: the daemon's default of 5 s. */
int flow_alloc(const char *name, unsigned timeout_ms);

/* The same of any kind of enum flow_qos. The peer of a message or stream flow has shown who it is. */
int flow_alloc_qos(const char *name, int qos, unsigned timeout_ms);

/* Serves a name from now on: created, bound to this process and registered in every layer. Returns a listener. */
int flow_listen(const char *name);

/* The next flow to a listener's name, accepted. Waits up to timeout_ms; 0: for ever. */
int flow_accept(int listener, unsigned timeout_ms);

/* Receives one SDU; returns its length. Waits for it. */
ssize_t flow_read(int flow, void *buffer, size_t size);

/* The same; waits up to timeout_ms. */
ssize_t flow_read_within(int flow, void *buffer, size_t size, unsigned timeout_ms);

/* Sends one SDU, whole or not at all; returns its length. */
ssize_t flow_write(int flow, const void *sdu, size_t length);

/* The flow's socket, for poll, epoll, read and write. It stays the flow's: do not close it, do not make it
 * non-blocking. Valid until flow_dealloc(). */
int flow_fd(int flow);

/* Opens a stream of a stream flow. Returns a descriptor of the program's own: a connected SOCK_STREAM socket in blocking
 * mode, for read, write, poll, shutdown and close. shutdown(fd, SHUT_WR) finishes what is written, close() finishes it
 * and reads no more; a read of 0 is the peer's finish, ECONNRESET and EPIPE are ends before their time. */
int flow_stream_open(int flow);

/* The next stream that the peer opened. Waits up to timeout_ms; 0: for ever. */
int flow_stream_accept(int flow, unsigned timeout_ms);

/* 0 while all is well with a stream's descriptor, or both directions ended well; FLOW_ESTREAM once one ended before its
 * time: flow_last_error() says which way and why. To be asked before the descriptor is closed. */
int flow_stream_status(int fd);

/* Gives a stream up: the peer reads an error with the reason, a number of the program's own. Close the descriptor then. */
int flow_stream_reset(int fd, unsigned reason);

/* The longest SDU, bytes. */
ssize_t flow_sdu_limit(int flow);

/* Copies the name of who asked for the flow ("John Day" for a classic caller), NUL-terminated and cut to size;
 * returns its whole length. */
ssize_t flow_source(int flow, char *buffer, size_t size);

/* Copies the fingerprint of the host key that the peer's host showed ("SHA256:..."), as flow_source() does; empty for raw
 * flows and within a host. */
ssize_t flow_peer_host(int flow, char *buffer, size_t size);

/* Ends a flow, or stops serving a listener's name; the handle is void at once. A call under way on the flow in another
 * thread returns FLOW_EGONE; one on the listener goes on until it ends by itself. */
int flow_dealloc(int handle);

/* What went wrong in this thread's last failed call: a sentence, valid until its next failing call. */
const char *flow_last_error(void);

/* What a code stands for, in few words. */
const char *flow_strerror(int code);

#ifdef __cplusplus
}
#endif

#endif

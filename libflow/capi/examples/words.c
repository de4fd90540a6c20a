/* Sends standard input over a stream to a host that counts its words: ./words < text */
#include <flowring.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

static int failed(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, flow_last_error());
    return 1;
}

/* All of one descriptor into another. */
static int copy(int from, int to)
{
    char block[16384];
    ssize_t got;
    while ((got = read(from, block, sizeof block)) > 0) {
        for (ssize_t done = 0, n; done < got; done += n) {
            if ((n = write(to, block + done, got - done)) < 0)
                return -1;
        }
    }
    return (int)got;
}

int main(void)
{
    char host[64];
    int flow = flow_alloc_qos("words", FLOW_STREAM, 0);
    if (flow < 0)
        return failed("flow_alloc_qos");
    flow_peer_host(flow, host, sizeof host);
    fprintf(stderr, "words is served by %s\n", host);
    int stream = flow_stream_open(flow);
    if (stream < 0)
        return failed("flow_stream_open");
    /* Half-closed: the answer still comes. */
    if (copy(0, stream) < 0 || shutdown(stream, SHUT_WR) < 0 || copy(stream, 1) < 0) {
        flow_stream_status(stream);
        return failed("the stream");
    }
    close(stream);
    return flow_dealloc(flow) < 0 ? failed("flow_dealloc") : 0;
}

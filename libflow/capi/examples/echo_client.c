/* Sends SDUs to a name and prints what comes back, once by flow_read and once by its descriptor alone.
 * cc echo_client.c -lflow -o echo_client; ./echo_client [NAME] */
#include <flowring.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int failed(const char *what)
{
    fprintf(stderr, "echo_client: %s: %s\n", what, flow_last_error());
    return 1;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "echo";
    const char *hello = "hello from C";
    char sdu[2048];
    ssize_t length;
    struct pollfd ready;
    int flow = flow_alloc(name, 0);
    if (flow < 0)
        return failed("flow_alloc");
    if (flow_write(flow, hello, strlen(hello)) < 0)
        return failed("flow_write");
    /* A raw flow may lose an SDU: do not wait for ever. */
    if ((length = flow_read_within(flow, sdu, sizeof sdu, 2000)) < 0)
        return failed("flow_read_within");
    printf("%.*s\n", (int)length, sdu);

    /* What a program does that knows descriptors only. */
    ready.fd = flow_fd(flow);
    ready.events = POLLIN;
    if (write(ready.fd, "by descriptor", 13) != 13 || poll(&ready, 1, 2000) != 1 ||
        (length = read(ready.fd, sdu, sizeof sdu)) <= 0) {
        perror("echo_client: the descriptor");
        return 1;
    }
    printf("%.*s\n", (int)length, sdu);
    return flow_dealloc(flow) < 0;
}

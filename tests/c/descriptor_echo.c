/* Serves a name; the part that echoes knows a descriptor, poll, read and write, and nothing of flows. */
#include <flowring.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

/* Until the peer is gone; how many SDUs. */
static long echo(int fd)
{
    static char sdu[65536];
    long sdus = 0;
    for (;;) {
        struct pollfd ready = { .fd = fd, .events = POLLIN };
        ssize_t length;
        if (poll(&ready, 1, -1) != 1)
            return -1;
        length = read(fd, sdu, sizeof sdu);
        if (length <= 0 || write(fd, sdu, (size_t)length) != length)
            return sdus;
        sdus++;
    }
}

int main(int argc, char **argv)
{
    int listener = argc == 2 ? flow_listen(argv[1]) : -1;
    int flow = listener < 0 ? -1 : flow_accept(listener, 20000);
    if (flow < 0) {
        fprintf(stderr, "descriptor_echo: %s\n", flow_last_error());
        return 1;
    }
    printf("%ld SDUs\n", echo(flow_fd(flow)));
    return 0;
}

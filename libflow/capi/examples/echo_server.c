/* Echoes every SDU of every flow to a name, one flow after the other.
 * cc echo_server.c -lflow -o echo_server; ./echo_server [NAME [FLOWS]] */
#include <flowring.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "echo";
    long flows = argc > 2 ? atol(argv[2]) : -1;
    int listener = flow_listen(name);
    if (listener < 0) {
        fprintf(stderr, "echo_server: %s\n", flow_last_error());
        return 1;
    }
    printf("serving %s\n", name);
    fflush(stdout);
    while (flows != 0) {
        char source[256], sdu[65536];
        ssize_t length;
        int flow = flow_accept(listener, 0);
        if (flow < 0) {
            fprintf(stderr, "echo_server: %s\n", flow_last_error());
            return 1;
        }
        flow_source(flow, source, sizeof source);
        printf("a flow from %s\n", source);
        fflush(stdout);
        while ((length = flow_read(flow, sdu, sizeof sdu)) > 0)
            if (flow_write(flow, sdu, (size_t)length) < 0)
                break;
        printf("over: %s\n", flow_last_error());
        fflush(stdout);
        flow_dealloc(flow);
        if (flows > 0)
            flows--;
    }
    return flow_dealloc(listener) < 0;
}

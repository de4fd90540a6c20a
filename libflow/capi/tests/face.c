/* Every call of flowring.h without a daemon: it links, and says what is wrong. */
#include <flowring.h>
#include <stdio.h>
#include <string.h>

static int bad;

static void want(const char *call, long got, long wanted, const char *words)
{
    if (got != wanted || !strstr(flow_last_error(), words)) {
        printf("%s: %ld, not %ld; \"%s\" has no \"%s\"\n", call, got, wanted, flow_last_error(), words);
        bad = 1;
    }
}

int main(void)
{
    char buffer[8];
    want("flow_alloc", flow_alloc("echo", 100), FLOW_EUNREACHABLE, "irmd --run-dir");
    want("flow_alloc", flow_alloc(NULL, 0), FLOW_EINVAL, "null");
    want("flow_alloc", flow_alloc("two words", 0), FLOW_EINVAL, "two words");
    want("flow_alloc", flow_alloc("\xff", 0), FLOW_EINVAL, "UTF-8");
    want("flow_listen", flow_listen("echo"), FLOW_EUNREACHABLE, "irmd.sock");
    want("flow_accept", flow_accept(0, 1), FLOW_EHANDLE, "0 is no handle");
    want("flow_read", flow_read(3, buffer, sizeof buffer), FLOW_EHANDLE, "3 is no handle");
    want("flow_read_within", flow_read_within(-1, buffer, sizeof buffer, 1), FLOW_EHANDLE, "-1");
    want("flow_write", flow_write(3, "x", 1), FLOW_EHANDLE, "3");
    want("flow_fd", flow_fd(3), FLOW_EHANDLE, "3");
    want("flow_sdu_limit", flow_sdu_limit(3), FLOW_EHANDLE, "3");
    want("flow_source", flow_source(3, buffer, sizeof buffer), FLOW_EHANDLE, "3");
    want("flow_alloc_qos", flow_alloc_qos("echo", 9, 0), FLOW_EINVAL, "FLOW_STREAM");
    want("flow_alloc_qos", flow_alloc_qos("echo", FLOW_STREAM, 100), FLOW_EUNREACHABLE, "irmd --run-dir");
    want("flow_stream_open", flow_stream_open(3), FLOW_EHANDLE, "3 is no handle");
    want("flow_stream_accept", flow_stream_accept(3, 1), FLOW_EHANDLE, "3");
    want("flow_stream_status", flow_stream_status(3), FLOW_EHANDLE, "3");
    want("flow_stream_reset", flow_stream_reset(3, 1), FLOW_EHANDLE, "3");
    want("flow_peer_host", flow_peer_host(3, buffer, sizeof buffer), FLOW_EHANDLE, "3");
    want("flow_dealloc", flow_dealloc(3), FLOW_EHANDLE, "3");
    if (strcmp(flow_strerror(FLOW_EGONE), "the flow is gone") || strcmp(flow_strerror(0), "no error") ||
        strcmp(flow_strerror(-99), "unknown error code") || strcmp(flow_strerror(FLOW_EFAILED), "failed")) {
        printf("flow_strerror\n");
        bad = 1;
    }
    return bad;
}

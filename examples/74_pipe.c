// mkdir -p build && cc -O2 -pthread -I. -o build/74_pipe examples/74_pipe.c
//
// A pipe between parent and child carries whole messages, of any bytes and any size. First the child
// sends one; then, through a duplex pipe, one that is answered. When the other end has been closed,
// and all it sent has been received, there is an end.
//
// Output:
//   [42, null, "hello"]
//   then: MTASK_CLOSED
//   the parent got: [12, {"name": "yuan"}, "hello"]
//   the child got a response: Hello, child!
#define MTASK_IMPLEMENTATION
#include "mtask_proc.h"
#include "common.h"
#include <string.h>

/* The two ends. A forked child has both, and closes the one that it does not use. */
static mtask_conn *parent_conn, *child_conn;

static void *f(void *message) {
    MUST(mtask_conn_close(parent_conn));
    MUST(mtask_conn_send(child_conn, message, strlen((const char *)message), MTASK_FOREVER));
    MUST(mtask_conn_close(child_conn));
    return NULL;
}

static void one_message(void) {
    mtask_proc *process;
    mtask_buf message = {0};
    MUST(mtask_pipe(&parent_conn, &child_conn, false)); /* parent_conn receives */
    MUST(mtask_proc_start(&process, f, (void *)"[42, null, \"hello\"]"));
    MUST(mtask_conn_close(child_conn)); /* or the end would never come: it could still send */
    MUST(mtask_conn_recv(parent_conn, &message, MTASK_FOREVER));
    printf("%s\n", message.data);
    mtask_status status = mtask_conn_recv(parent_conn, &message, MTASK_FOREVER);
    printf("then: %s\n", mtask_status_name(status));
    MUST(mtask_proc_join(process, NULL, MTASK_FOREVER));
    MUST(mtask_proc_close(process));
    MUST(mtask_conn_close(parent_conn));
    mtask_buf_free(&message);
}

static void *g(void *message) {
    mtask_buf response = {0};
    MUST(mtask_conn_close(parent_conn));
    MUST(mtask_conn_send(child_conn, message, strlen((const char *)message), MTASK_FOREVER));
    MUST(mtask_conn_recv(child_conn, &response, MTASK_FOREVER));
    printf("the child got a response: %s\n", response.data);
    mtask_buf_free(&response);
    MUST(mtask_conn_close(child_conn));
    return NULL;
}

static void with_reply(void) {
    const char reply[] = "Hello, child!";
    mtask_proc *process;
    mtask_buf message = {0};
    MUST(mtask_pipe(&parent_conn, &child_conn, true));
    MUST(mtask_proc_start(&process, g, (void *)"[12, {\"name\": \"yuan\"}, \"hello\"]"));
    MUST(mtask_conn_close(child_conn));
    MUST(mtask_conn_recv(parent_conn, &message, MTASK_FOREVER));
    printf("the parent got: %s\n", message.data);
    fflush(stdout);
    MUST(mtask_conn_send(parent_conn, reply, strlen(reply), MTASK_FOREVER));
    MUST(mtask_proc_join(process, NULL, MTASK_FOREVER));
    MUST(mtask_proc_close(process));
    MUST(mtask_conn_close(parent_conn));
    mtask_buf_free(&message);
}

int main(void) {
    one_message();
    with_reply();
    return 0;
}

// The limit: an open-loop client that does nothing but send when due and stamp every read. One thread, epoll.
//
//   c_client PORT SCHEDULE COUNT TOKENS WARM OUTPUT      build: gcc -O2 -o c_client c_client.c
//
// SCHEDULE: COUNT doubles, seconds after the start, ascending. WARM: connections opened before the start.
// OUTPUT, native byte order, per request: u64 due_ns, send_ns, done_ns, read_count; u64 stamp_ns[read_count];
// u32 event_count[read_count] (SSE events that ended in that read). Times are CLOCK_MONOTONIC. Any failure of a
// connection ends the program with status 1: it is a limit to compare with, not a tool.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef uint64_t u64;

enum { EVENTS_MAX = 512, READ_BYTES = 1 << 17, PROMPT_BYTES = 120, TAIL_BYTES = 7, FILES_MAX = 65536, LEAD_NS = 100000000 };

typedef struct {
    u64 due_ns, send_ns, done_ns, read_count, capacity;
    u64 *stamp_ns;
    uint32_t *event_count;
} Exchange;

typedef struct Connection {
    int fd;
    long exchange;
    char tail[TAIL_BYTES];  // the last bytes of the answer so far: its end may be split between reads
    struct Connection *next_idle;
} Connection;

static int epoll_fd, token_count;
static struct sockaddr_in server;
static Connection *idle;
static Exchange *exchanges;

static u64 now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * 1000000000ull + (u64)t.tv_nsec;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static Connection *open_connection(void) {
    Connection *c = calloc(1, sizeof *c);
    if (!c) fail("calloc");
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&server, sizeof server)) fail("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event);
    return c;
}

static void send_request(long index) {
    Connection *c = idle;
    if (c) idle = c->next_idle;
    else c = open_connection();
    c->exchange = index;
    memset(c->tail, 0, TAIL_BYTES);
    char prompt[PROMPT_BYTES + 1], body[1024], request[2048];
    int bytes = snprintf(prompt, sizeof prompt, "rid=%ld ", index);
    for (int i = bytes; i < PROMPT_BYTES; i++) prompt[i] = "abcdefg "[(i - bytes) & 7];
    prompt[PROMPT_BYTES] = 0;
    int body_bytes = snprintf(body, sizeof body,
                              "{\"model\":\"tiny\",\"prompt\":\"%s\",\"max_tokens\":%d,\"temperature\":0,\"ignore_eos\":true,"
                              "\"stream\":true,\"stream_options\":{\"include_usage\":true}}",
                              prompt, token_count);
    bytes = snprintf(request, sizeof request,
                     "POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nx-request-id: r%ld\r\n"
                     "content-type: application/json\r\ncontent-length: %d\r\n\r\n%s",
                     index, body_bytes, body);
    exchanges[index].send_ns = now_ns();
    if (send(c->fd, request, (size_t)bytes, MSG_NOSIGNAL) != bytes) fail("send");
}

// How many SSE events (ended by an empty line) end in these bytes; `before` is the byte that came before them.
static uint32_t count_events(const char *bytes, size_t count, char before) {
    uint32_t events = 0;
    const char *end = bytes + count;
    for (const char *at = bytes, *newline; (newline = memchr(at, '\n', (size_t)(end - at))); at = newline + 1)
        events += (newline > bytes ? newline[-1] : before) == '\n';
    return events;
}

static void keep_tail(Connection *c, const char *bytes, size_t count) {
    if (count >= TAIL_BYTES) {
        memcpy(c->tail, bytes + count - TAIL_BYTES, TAIL_BYTES);
    } else {
        memmove(c->tail, c->tail + count, TAIL_BYTES - count);
        memcpy(c->tail + TAIL_BYTES - count, bytes, count);
    }
}

// Read once; true if the answer is complete.
static bool read_answer(Connection *c) {
    static char buffer[READ_BYTES];
    ssize_t count = recv(c->fd, buffer, sizeof buffer, 0);
    u64 stamp_ns = now_ns();
    if (count <= 0 || c->exchange < 0) fail("recv");
    Exchange *x = &exchanges[c->exchange];
    if (x->read_count == x->capacity) {
        x->capacity *= 2;
        x->stamp_ns = realloc(x->stamp_ns, x->capacity * sizeof *x->stamp_ns);
        x->event_count = realloc(x->event_count, x->capacity * sizeof *x->event_count);
        if (!x->stamp_ns || !x->event_count) fail("realloc");
    }
    x->stamp_ns[x->read_count] = stamp_ns;
    x->event_count[x->read_count++] = count_events(buffer, (size_t)count, c->tail[TAIL_BYTES - 1]);
    keep_tail(c, buffer, (size_t)count);
    if (memcmp(c->tail, "\r\n0\r\n\r\n", TAIL_BYTES)) return false;
    x->done_ns = stamp_ns;
    c->exchange = -1;
    c->next_idle = idle;
    idle = c;
    return true;
}

static void drive(long count) {
    static struct epoll_event events[EVENTS_MAX];
    for (long next = 0, done = 0; done < count;) {
        while (next < count && exchanges[next].due_ns <= now_ns()) send_request(next++);
        struct timespec wait = {0, 0}, *timeout = NULL;
        if (next < count) {
            u64 t = now_ns(), left_ns = exchanges[next].due_ns > t ? exchanges[next].due_ns - t : 0;
            wait.tv_sec = (time_t)(left_ns / 1000000000ull);
            wait.tv_nsec = (long)(left_ns % 1000000000ull);
            timeout = &wait;
        }
        int ready = epoll_pwait2(epoll_fd, events, EVENTS_MAX, timeout, NULL);
        for (int i = 0; i < ready; i++) done += read_answer(events[i].data.ptr);
    }
}

static void prepare(const char *schedule, long count) {
    exchanges = calloc((size_t)count, sizeof *exchanges);
    double *due_s = calloc((size_t)count, sizeof *due_s);
    FILE *file = fopen(schedule, "rb");
    if (!exchanges || !due_s || !file || fread(due_s, sizeof *due_s, (size_t)count, file) != (size_t)count) fail(schedule);
    fclose(file);
    for (long i = 0; i < count; i++) {
        Exchange *x = &exchanges[i];
        x->capacity = (u64)token_count + 4;
        x->stamp_ns = calloc(x->capacity, sizeof *x->stamp_ns);
        x->event_count = calloc(x->capacity, sizeof *x->event_count);
        if (!x->stamp_ns || !x->event_count) fail("calloc");
        x->due_ns = (u64)(due_s[i] * 1e9);
    }
    free(due_s);
}

static void write_log(const char *path, long count) {
    FILE *file = fopen(path, "wb");
    if (!file) fail(path);
    for (long i = 0; i < count; i++) {
        Exchange *x = &exchanges[i];
        fwrite(&x->due_ns, sizeof(u64), 4, file);
        fwrite(x->stamp_ns, sizeof *x->stamp_ns, x->read_count, file);
        fwrite(x->event_count, sizeof *x->event_count, x->read_count, file);
    }
    if (fclose(file)) fail(path);
}

int main(int argument_count, char **arguments) {
    if (argument_count != 7) {
        fprintf(stderr, "usage: c_client PORT SCHEDULE COUNT TOKENS WARM OUTPUT\n");
        return 2;
    }
    long count = atol(arguments[3]), warm = atol(arguments[5]);
    token_count = atoi(arguments[4]);
    server.sin_family = AF_INET;
    server.sin_port = htons((uint16_t)atoi(arguments[1]));
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max < FILES_MAX ? files.rlim_max : FILES_MAX;
    setrlimit(RLIMIT_NOFILE, &files);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    prepare(arguments[2], count);
    for (long i = 0; i < warm; i++) {
        Connection *c = open_connection();
        c->exchange = -1;
        c->next_idle = idle;
        idle = c;
    }
    u64 start_ns = now_ns() + LEAD_NS;
    for (long i = 0; i < count; i++) exchanges[i].due_ns += start_ns;
    drive(count);
    write_log(arguments[6], count);
}

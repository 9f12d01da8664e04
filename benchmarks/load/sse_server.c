// A stand-in for vLLM's server that knows when it truly sent every chunk: one thread, epoll, a heap of due times.
//
// A benchmark aid: it listens on 127.0.0.1 only and trusts whoever connects. Build: gcc -O2 -o sse_server sse_server.c
//
//   sse_server --port 8100 [--ttft-us 50000] [--itl-us 10000] [--tokens 32] [--model tiny] [--lockstep]
//
// POST /v1/completions, /v1/chat/completions   streams (or not) as vLLM 0.32 does; answers max_tokens tokens
// GET  /health /ping /version /metrics /v1/models, POST /tokenize /detokenize
// GET  /ctl?ttft_us=&itl_us=&tokens=&force=&per_chunk=&lockstep=&dump=PATH&reset=1   settings, counters, the log
//
// The log: what `benchmarks/load/server_log.py` reads. Per request, native byte order:
//   u64 received_ns, done_ns, port, exchange, chunk_count; char key[64]; u64 sent_ns[chunk_count], due_ns[chunk_count]
// Times are CLOCK_MONOTONIC. `received`: the whole request was read. `sent`: just before the chunk's send(2).
// `done` is 0 for an answer that was cut off. `key`: the header x-request-id, else "rid=N" found in the body, else "".
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
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

enum { KEY_BYTES = 64, EVENTS_MAX = 1024, EMIT_MAX = 64, INPUT_BYTES = 32768, BODY_BYTES_MAX = 1 << 20, FILES_MAX = 65536 };

typedef struct {
    u64 received_ns, done_ns, port, exchange, chunk_count;
    char key[KEY_BYTES];
    u64 *sent_ns, *due_ns;
    u64 capacity;
} Entry;

typedef struct Connection {
    int fd, heap_index, port;
    u64 exchanges;
    char *in, *out;
    size_t in_bytes, in_capacity, out_bytes, out_capacity;
    bool waits_for_room, streaming, gone;
    // The answer that is being streamed.
    u64 entry, due_ns, created_s;
    int chunk, chunk_count, tokens, prompt_tokens;
    bool chat, usage, token_ids;
    char id[64];
    struct Connection *next_gone;
} Connection;

static struct {
    u64 ttft_ns, itl_ns;
    int tokens, forced_tokens, tokens_per_chunk;
    bool lockstep;
    const char *model;
} settings = {50000000, 10000000, 32, 0, 1, false, "tiny"};

static int epoll_fd;
static Entry *entries;
static u64 entry_count, entry_capacity;
static Connection **heap;
static int heap_count, heap_capacity;
static Connection *gone_list;
static u64 lockstep_zero_ns, send_count, late_ns_sum, late_ns_max, late_count;

static u64 now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * 1000000000ull + (u64)t.tv_nsec;
}

static void *grown(void *memory, size_t bytes) {
    void *result = realloc(memory, bytes);
    if (!result) {
        perror("realloc");
        exit(1);
    }
    return result;
}

// --- due times: a binary heap of streaming connections -------------------------------------------------------------

static void heap_put(int index, Connection *c) {
    heap[index] = c;
    c->heap_index = index;
}

static void heap_up(int index) {
    Connection *c = heap[index];
    for (int parent; index > 0 && heap[parent = (index - 1) / 2]->due_ns > c->due_ns; index = parent)
        heap_put(index, heap[parent]);
    heap_put(index, c);
}

static void heap_down(int index) {
    Connection *c = heap[index];
    for (int child; (child = 2 * index + 1) < heap_count; index = child) {
        if (child + 1 < heap_count && heap[child + 1]->due_ns < heap[child]->due_ns) child++;
        if (heap[child]->due_ns >= c->due_ns) break;
        heap_put(index, heap[child]);
    }
    heap_put(index, c);
}

static void heap_add(Connection *c) {
    if (heap_count == heap_capacity) {
        heap_capacity = heap_capacity ? heap_capacity * 2 : 4096;
        heap = grown(heap, (size_t)heap_capacity * sizeof *heap);
    }
    heap_put(heap_count, c);
    heap_up(heap_count++);
}

static void heap_remove(Connection *c) {
    int index = c->heap_index;
    if (index < 0) return;
    c->heap_index = -1;
    if (index == --heap_count) return;
    heap_put(index, heap[heap_count]);
    heap_up(index);
    heap_down(heap[index]->heap_index);
}

// --- sockets ---------------------------------------------------------------------------------------------------------

static void drop(Connection *c) {
    if (c->gone) return;
    c->gone = true;
    heap_remove(c);
    close(c->fd);
    c->next_gone = gone_list;  // freed after this round: an event of it may still be in hand
    gone_list = c;
}

static void wait_for_room(Connection *c, bool wanted) {
    if (c->waits_for_room == wanted) return;
    c->waits_for_room = wanted;
    struct epoll_event event = {.events = EPOLLIN | (wanted ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event);
}

static void send_bytes(Connection *c, const char *bytes, size_t count) {
    if (c->gone) return;
    if (c->out_bytes == 0) {
        ssize_t sent = send(c->fd, bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT);
        send_count++;
        if (sent < 0) {
            if (errno != EAGAIN) {
                drop(c);
                return;
            }
            sent = 0;
        }
        if ((size_t)sent == count) return;
        bytes += sent;
        count -= (size_t)sent;
    }
    if (c->out_bytes + count > c->out_capacity) c->out = grown(c->out, c->out_capacity = (c->out_bytes + count) * 2);
    memcpy(c->out + c->out_bytes, bytes, count);
    c->out_bytes += count;
    wait_for_room(c, true);
}

static void flush(Connection *c) {
    ssize_t sent = send(c->fd, c->out, c->out_bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) {
        if (errno != EAGAIN) drop(c);
        return;
    }
    memmove(c->out, c->out + sent, c->out_bytes -= (size_t)sent);
    if (!c->out_bytes) wait_for_room(c, false);
}

// --- answers -------------------------------------------------------------------------------------------------------

static void answer(Connection *c, const char *status, const char *type, const char *body) {
    char head[512];
    size_t length = strlen(body);
    int bytes = snprintf(head, sizeof head, "HTTP/1.1 %s\r\nserver: uvicorn\r\ncontent-length: %zu\r\ncontent-type: %s\r\n\r\n",
                         status, length, type);
    char *whole = grown(NULL, (size_t)bytes + length);
    memcpy(whole, head, (size_t)bytes);
    memcpy(whole + bytes, body, length);
    send_bytes(c, whole, (size_t)bytes + length);
    free(whole);
}

// One SSE event as one HTTP chunk; returns its bytes.
static size_t framed(char *target, size_t room, const char *event) {
    size_t length = strlen(event);
    return (size_t)snprintf(target, room, "%zx\r\n%s\r\n", length, event);
}

static const char *object_name(const Connection *c) { return c->chat ? "chat.completion.chunk" : "text_completion"; }

static size_t token_event(const Connection *c, char *target, size_t room) {
    char text[512] = "", ids[512] = "null", event[2048];
    int first = c->chunk * settings.tokens_per_chunk, text_bytes = 0, id_bytes = 0;
    for (int i = 0; i < settings.tokens_per_chunk && text_bytes < 480; i++) {
        text_bytes += sprintf(text + text_bytes, " t%04d", (first + i) % 10000);
        if (c->token_ids) id_bytes += sprintf(ids + id_bytes, "%c%d", i ? ',' : '[', 10 + (first + i) % 100);
    }
    if (c->token_ids) strcpy(ids + id_bytes, "]");
    const char *finish = c->chunk == c->chunk_count - 1 ? "\"length\"" : "null";
    if (c->chat)
        snprintf(event, sizeof event,
                 "data: {\"id\":\"%s\",\"object\":\"%s\",\"created\":%" PRIu64 ",\"model\":\"%s\",\"choices\":[{\"index\":0,"
                 "\"delta\":{\"content\":\"%s\"},\"logprobs\":null,\"finish_reason\":%s,\"token_ids\":%s}]}\n\n",
                 c->id, object_name(c), c->created_s, settings.model, text, finish, ids);
    else
        snprintf(event, sizeof event,
                 "data: {\"id\":\"%s\",\"object\":\"%s\",\"created\":%" PRIu64 ",\"model\":\"%s\",\"choices\":[{\"index\":0,"
                 "\"text\":\"%s\",\"logprobs\":null,\"finish_reason\":%s,\"stop_reason\":null,\"prompt_token_ids\":null,"
                 "\"token_ids\":%s}]}\n\n",
                 c->id, object_name(c), c->created_s, settings.model, text, finish, ids);
    return framed(target, room, event);
}

static void send_event(Connection *c, const char *event) {
    char frame[1024];
    send_bytes(c, frame, framed(frame, sizeof frame, event));
}

static void send_role(Connection *c) {  // what vLLM's chat sends before the first token
    char event[768];
    snprintf(event, sizeof event,
             "data: {\"id\":\"%s\",\"object\":\"%s\",\"created\":%" PRIu64 ",\"model\":\"%s\",\"choices\":[{\"index\":0,"
             "\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n",
             c->id, object_name(c), c->created_s, settings.model);
    send_event(c, event);
}

static void send_end(Connection *c) {  // usage and [DONE] are sends of their own, directly after the last token
    char event[768];
    if (c->usage) {
        snprintf(event, sizeof event,
                 "data: {\"id\":\"%s\",\"object\":\"%s\",\"created\":%" PRIu64 ",\"model\":\"%s\",\"choices\":[],"
                 "\"usage\":{\"prompt_tokens\":%d,\"total_tokens\":%d,\"completion_tokens\":%d}}\n\n",
                 c->id, object_name(c), c->created_s, settings.model, c->prompt_tokens, c->prompt_tokens + c->tokens,
                 c->tokens);
        send_event(c, event);
    }
    static const char end[] = "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";
    send_bytes(c, end, sizeof end - 1);
}

static void log_chunk(Entry *entry, u64 sent_ns, u64 due_ns) {
    if (entry->chunk_count == entry->capacity) {
        entry->capacity = entry->capacity ? entry->capacity * 2 : 40;
        entry->sent_ns = grown(entry->sent_ns, entry->capacity * sizeof(u64));
        entry->due_ns = grown(entry->due_ns, entry->capacity * sizeof(u64));
    }
    entry->sent_ns[entry->chunk_count] = sent_ns;
    entry->due_ns[entry->chunk_count++] = due_ns;
}

static void read_requests(Connection *c);

static void emit(Connection *c) {
    char frame[3072];
    size_t bytes = token_event(c, frame, sizeof frame);
    Entry *entry = &entries[c->entry];
    if (c->chat && c->chunk == 0) send_role(c);
    if (c->gone) return;
    u64 sent_ns = now_ns();
    if (sent_ns > c->due_ns) {
        late_ns_sum += sent_ns - c->due_ns;
        if (sent_ns - c->due_ns > late_ns_max) late_ns_max = sent_ns - c->due_ns;
    }
    late_count++;
    log_chunk(entry, sent_ns, c->due_ns);
    c->chunk++;
    send_bytes(c, frame, bytes);
    if (c->gone) return;
    if (c->chunk < c->chunk_count) {
        c->due_ns = settings.lockstep ? c->due_ns + settings.itl_ns
                                      : entry->received_ns + settings.ttft_ns + (u64)c->chunk * settings.itl_ns;
        heap_down(c->heap_index);
        return;
    }
    send_end(c);
    if (c->gone) return;
    entry->done_ns = now_ns();
    heap_remove(c);
    c->streaming = false;
    if (c->in_bytes) read_requests(c);
}

// --- requests ------------------------------------------------------------------------------------------------------

static long json_integer(const char *body, size_t bytes, const char *key, long otherwise) {
    const char *at = memmem(body, bytes, key, strlen(key)), *end = body + bytes;
    if (!at) return otherwise;
    for (at += strlen(key); at < end && (*at == ' ' || *at == ':' || *at == '"');) at++;
    return at < end && *at >= '0' && *at <= '9' ? strtol(at, NULL, 10) : otherwise;
}

static bool json_true(const char *body, size_t bytes, const char *key) {
    const char *at = memmem(body, bytes, key, strlen(key)), *end = body + bytes;
    if (!at) return false;
    for (at += strlen(key); at < end && (*at == ' ' || *at == ':');) at++;
    return at < end && *at == 't';
}

static void request_key(char *key, const char *head, const char *body, size_t bytes) {
    const char *at = strcasestr(head, "\r\nx-request-id:");
    size_t length = 0;
    if (at) {
        for (at += 15; *at == ' ';) at++;
        while (length < KEY_BYTES - 1 && at[length] != '\r' && at[length]) length++;
    } else if ((at = memmem(body, bytes, "rid=", 4))) {
        for (at += 4; length < KEY_BYTES - 1 && at[length] >= '0' && at[length] <= '9';) length++;
    }
    if (length) memcpy(key, at, length);
}

static u64 log_request(const Connection *c, const char *head, const char *body, size_t bytes) {
    if (entry_count == entry_capacity) {
        entry_capacity = entry_capacity ? entry_capacity * 2 : 4096;
        entries = grown(entries, entry_capacity * sizeof *entries);
    }
    Entry *entry = &entries[entry_count];
    memset(entry, 0, sizeof *entry);
    entry->received_ns = now_ns();
    entry->port = (u64)c->port;
    entry->exchange = c->exchanges;
    request_key(entry->key, head, body, bytes);
    return entry_count++;
}

static void answer_whole(Connection *c) {
    char body[768];
    snprintf(body, sizeof body,
             "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%" PRIu64 ",\"model\":\"%s\",\"choices\":[{\"index\":0,%s,"
             "\"logprobs\":null,\"finish_reason\":\"length\"}],\"usage\":{\"prompt_tokens\":%d,\"total_tokens\":%d,"
             "\"completion_tokens\":%d}}",
             c->id, c->chat ? "chat.completion" : "text_completion", c->created_s, settings.model,
             c->chat ? "\"message\":{\"role\":\"assistant\",\"content\":\"ok\"}" : "\"text\":\" ok\"", c->prompt_tokens,
             c->prompt_tokens + c->tokens, c->tokens);
    answer(c, "200 OK", "application/json", body);
    entries[c->entry].done_ns = now_ns();
}

static void start_answer(Connection *c, bool chat, const char *head, const char *body, size_t bytes) {
    long tokens = json_integer(body, bytes, "\"max_completion_tokens\"", 0);
    if (tokens < 1) tokens = json_integer(body, bytes, "\"max_tokens\"", settings.tokens);
    if (settings.forced_tokens) tokens = settings.forced_tokens;
    c->chat = chat;
    c->usage = json_true(body, bytes, "\"include_usage\"");
    c->token_ids = json_true(body, bytes, "\"return_token_ids\"");
    c->tokens = tokens < 1 ? 1 : (int)tokens;
    c->chunk_count = (c->tokens + settings.tokens_per_chunk - 1) / settings.tokens_per_chunk;
    c->tokens = c->chunk_count * settings.tokens_per_chunk;
    c->chunk = 0;
    c->prompt_tokens = (int)(bytes / 6);
    c->created_s = (u64)time(NULL);
    c->entry = log_request(c, head, body, bytes);
    c->exchanges++;
    snprintf(c->id, sizeof c->id, "%s-%032" PRIx64, chat ? "chatcmpl" : "cmpl", c->entry);
    if (!json_true(body, bytes, "\"stream\"")) {
        answer_whole(c);
        return;
    }
    static const char start[] =
        "HTTP/1.1 200 OK\r\ndate: Fri, 21 Nov 2025 00:00:00 GMT\r\nserver: uvicorn\r\n"
        "content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";
    send_bytes(c, start, sizeof start - 1);  // starlette sends the head at once, before the first token
    if (c->gone) return;
    u64 due_ns = entries[c->entry].received_ns + settings.ttft_ns;
    if (settings.lockstep && settings.itl_ns)  // all streams on one tick, as a batch engine's steps
        due_ns = lockstep_zero_ns + ((due_ns - lockstep_zero_ns) / settings.itl_ns + 1) * settings.itl_ns;
    c->due_ns = due_ns;
    c->streaming = true;
    heap_add(c);
}

static void dump_log(const char *path) {
    FILE *file = fopen(path, "wb");
    if (!file) return;
    for (u64 i = 0; i < entry_count; i++) {
        const Entry *entry = &entries[i];
        fwrite(&entry->received_ns, sizeof(u64), 5, file);
        fwrite(entry->key, 1, KEY_BYTES, file);
        fwrite(entry->sent_ns, sizeof(u64), entry->chunk_count, file);
        fwrite(entry->due_ns, sizeof(u64), entry->chunk_count, file);
    }
    fclose(file);
}

static void reset_log(void) {
    for (u64 i = 0; i < entry_count; i++) {
        free(entries[i].sent_ns);
        free(entries[i].due_ns);
    }
    entry_count = send_count = late_ns_sum = late_ns_max = late_count = 0;
}

static long query_value(const char *path, const char *name, long otherwise) {
    const char *at = strstr(path, name);
    return at ? strtol(at + strlen(name), NULL, 10) : otherwise;
}

static void control(Connection *c, char *path) {
    settings.ttft_ns = (u64)query_value(path, "ttft_us=", (long)(settings.ttft_ns / 1000)) * 1000;
    settings.itl_ns = (u64)query_value(path, "itl_us=", (long)(settings.itl_ns / 1000)) * 1000;
    settings.tokens = (int)query_value(path, "tokens=", settings.tokens);
    settings.forced_tokens = (int)query_value(path, "force=", settings.forced_tokens);
    settings.tokens_per_chunk = (int)query_value(path, "per_chunk=", settings.tokens_per_chunk);
    if (settings.tokens_per_chunk < 1 || settings.tokens_per_chunk > 64) settings.tokens_per_chunk = 1;
    settings.lockstep = query_value(path, "lockstep=", settings.lockstep) != 0;
    lockstep_zero_ns = now_ns();
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    char body[512];
    snprintf(body, sizeof body,
             "{\"requests\":%" PRIu64 ",\"active\":%d,\"sends\":%" PRIu64 ",\"chunks\":%" PRIu64
             ",\"late_ns_mean\":%.0f,\"late_ns_max\":%" PRIu64 ",\"cpu_s\":%.3f,\"now_ns\":%" PRIu64 "}",
             entry_count, heap_count, send_count, late_count, late_count ? (double)late_ns_sum / (double)late_count : 0.0,
             late_ns_max,
             (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6,
             now_ns());
    // A running answer would write into freed memory, hence only between windows.
    bool reset = query_value(path, "reset=", 0) && heap_count == 0;
    char *file = strstr(path, "dump=");
    if (file) {
        file += 5;
        file[strcspn(file, "&")] = 0;
        dump_log(file);
    }
    if (reset) reset_log();
    answer(c, "200 OK", "application/json", body);
}

static bool starts(const char *path, const char *prefix) { return strncmp(path, prefix, strlen(prefix)) == 0; }

static void route(Connection *c, char *path, const char *head, const char *body, size_t bytes) {
    char text[1024];
    if (starts(path, "/v1/completions")) {
        start_answer(c, false, head, body, bytes);
    } else if (starts(path, "/v1/chat/completions")) {
        start_answer(c, true, head, body, bytes);
    } else if (starts(path, "/v1/models")) {
        snprintf(text, sizeof text,
                 "{\"object\":\"list\",\"data\":[{\"id\":\"%s\",\"object\":\"model\",\"created\":1763689620,\"owned_by\":\"vllm\","
                 "\"root\":\"%s\",\"parent\":null,\"max_model_len\":32768,\"permission\":[]}]}",
                 settings.model, settings.model);
        answer(c, "200 OK", "application/json", text);
    } else if (starts(path, "/health") || starts(path, "/ping")) {
        answer(c, "200 OK", "text/plain", "");
    } else if (starts(path, "/version")) {
        answer(c, "200 OK", "application/json", "{\"version\":\"0.32.0\"}");
    } else if (starts(path, "/metrics")) {
        snprintf(text, sizeof text,
                 "# HELP vllm:num_requests_running Number of requests.\n# TYPE vllm:num_requests_running gauge\n"
                 "vllm:num_requests_running{engine=\"0\",model_name=\"%s\"} %d\n"
                 "# HELP vllm:request_success_total Finished requests.\n# TYPE vllm:request_success_total counter\n"
                 "vllm:request_success_total{model_name=\"%s\"} %" PRIu64 "\n",
                 settings.model, heap_count, settings.model, entry_count - (u64)heap_count);
        answer(c, "200 OK", "text/plain; version=0.0.4; charset=utf-8", text);
    } else if (starts(path, "/tokenize")) {
        answer(c, "200 OK", "application/json", "{\"count\":1,\"max_model_len\":32768,\"tokens\":[1]}");
    } else if (starts(path, "/detokenize")) {
        answer(c, "200 OK", "application/json", "{\"prompt\":\"ok\"}");
    } else if (starts(path, "/ctl")) {
        control(c, path);
    } else {
        answer(c, "404 Not Found", "application/json", "{\"detail\":\"Not Found\"}");
    }
}

// The bytes of a chunked body that is whole, its data moved to `target`; 0 if it is not whole, or too large.
static size_t unchunk(const char *bytes, size_t count, char *target, size_t *length) {
    size_t at = 0;
    *length = 0;
    for (;;) {
        const char *line_end = memmem(bytes + at, count - at, "\r\n", 2);
        if (!line_end) return 0;
        size_t size = strtoul(bytes + at, NULL, 16), data = (size_t)(line_end - bytes) + 2;
        if (size > BODY_BYTES_MAX - *length || data + size + 2 > count) return 0;
        memcpy(target + *length, bytes + data, size);
        *length += size;
        at = data + size + 2;
        if (size == 0) return at;
    }
}

// Serve what has arrived whole; one answer at a time, as HTTP/1.1 asks for.
static void read_requests(Connection *c) {
    static char unchunked[BODY_BYTES_MAX];
    while (!c->streaming && !c->gone && c->in_bytes) {
        char *head_end = memmem(c->in, c->in_bytes, "\r\n\r\n", 4);
        if (!head_end) return;
        size_t head_bytes = (size_t)(head_end - c->in) + 4, body_bytes = 0, whole_bytes;
        char *body = c->in + head_bytes;
        head_end[2] = 0;  // ends the head as a text after its last CRLF; put back before the bytes are used again
        char *length = strcasestr(c->in, "\r\ncontent-length:");
        bool chunked = strcasestr(c->in, "transfer-encoding: chunked") != NULL;
        bool expects = strcasestr(c->in, "\r\nexpect:") != NULL;
        if (length) body_bytes = strtoul(length + 17, NULL, 10);
        if (chunked) {
            whole_bytes = unchunk(body, c->in_bytes - head_bytes, unchunked, &body_bytes);
            body = unchunked;
            whole_bytes = whole_bytes ? head_bytes + whole_bytes : 0;
        } else {
            whole_bytes = head_bytes + body_bytes <= c->in_bytes ? head_bytes + body_bytes : 0;
        }
        if (!whole_bytes) {
            head_end[2] = '\r';
            if (expects) send_bytes(c, "HTTP/1.1 100 Continue\r\n\r\n", 25);
            return;
        }
        char path[512] = "";
        sscanf(c->in, "%*15s %511s", path);
        char *host = strstr(path, "://"), *slash = host ? strchr(host + 3, '/') : NULL;
        if (slash) memmove(path, slash, strlen(slash) + 1);  // a proxy-style request line
        route(c, path, c->in, body, body_bytes);
        if (c->gone) return;
        memmove(c->in, c->in + whole_bytes, c->in_bytes -= whole_bytes);
    }
}

static void read_bytes(Connection *c) {
    if (c->in_capacity - c->in_bytes < INPUT_BYTES / 2) {
        c->in_capacity = c->in_capacity ? c->in_capacity * 2 : INPUT_BYTES;
        c->in = grown(c->in, c->in_capacity);
    }
    ssize_t count = recv(c->fd, c->in + c->in_bytes, c->in_capacity - c->in_bytes - 1, 0);
    if (count <= 0) {
        if (count == 0 || errno != EAGAIN) drop(c);
        return;
    }
    c->in_bytes += (size_t)count;
    c->in[c->in_bytes] = 0;
    read_requests(c);
}

static void accept_all(int listener) {
    for (;;) {
        struct sockaddr_in peer;
        socklen_t peer_bytes = sizeof peer;
        int fd = accept4(listener, (struct sockaddr *)&peer, &peer_bytes, SOCK_NONBLOCK | SOCK_CLOEXEC), one = 1;
        if (fd < 0) return;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        Connection *c = calloc(1, sizeof *c);
        if (!c) exit(1);
        c->fd = fd;
        c->heap_index = -1;
        c->port = ntohs(peer.sin_port);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
    }
}

static void free_gone(void) {
    while (gone_list) {
        Connection *c = gone_list;
        gone_list = c->next_gone;
        free(c->in);
        free(c->out);
        free(c);
    }
}

static void serve(int listener) {
    static struct epoll_event events[EVENTS_MAX];
    for (;;) {
        u64 t = now_ns();
        for (int emitted = 0; heap_count && heap[0]->due_ns <= t && emitted < EMIT_MAX; emitted++) emit(heap[0]);
        struct timespec wait = {0, 0}, *timeout = NULL;
        if (heap_count) {
            t = now_ns();
            u64 left_ns = heap[0]->due_ns > t ? heap[0]->due_ns - t : 0;
            wait.tv_sec = (time_t)(left_ns / 1000000000ull);
            wait.tv_nsec = (long)(left_ns % 1000000000ull);
            timeout = &wait;
        }
        int count = epoll_pwait2(epoll_fd, events, EVENTS_MAX, timeout, NULL);
        for (int i = 0; i < count; i++) {
            Connection *c = events[i].data.ptr;
            if (!c) {
                accept_all(listener);
                continue;
            }
            if (!c->gone && events[i].events & EPOLLOUT && c->out_bytes) flush(c);
            if (!c->gone && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) read_bytes(c);
        }
        free_gone();
    }
}

static int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 4096)) {
        perror("bind");
        exit(1);
    }
    return fd;
}

int main(int count, char **arguments) {
    int port = 8100;
    for (int i = 1; i < count; i++) {
        const char *name = arguments[i], *value = i + 1 < count ? arguments[i + 1] : "";
        if (!strcmp(name, "--lockstep")) {
            settings.lockstep = true;
            continue;
        }
        if (!strcmp(name, "--port")) port = atoi(value);
        else if (!strcmp(name, "--ttft-us")) settings.ttft_ns = strtoull(value, NULL, 10) * 1000;
        else if (!strcmp(name, "--itl-us")) settings.itl_ns = strtoull(value, NULL, 10) * 1000;
        else if (!strcmp(name, "--tokens")) settings.tokens = atoi(value);
        else if (!strcmp(name, "--model")) settings.model = value;
        else {
            fprintf(stderr, "unknown option %s\n", name);
            return 2;
        }
        i++;
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max < FILES_MAX ? files.rlim_max : FILES_MAX;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    int listener = listen_on(port);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event);
    lockstep_zero_ns = now_ns();
    serve(listener);
}

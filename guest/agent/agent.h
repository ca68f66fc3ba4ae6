/*
 * The guest's agent: what the host may ask of a running guest. docs/agent.md has the protocol.
 *
 *   agent.c    listens, and one process for each connection
 *   wire.c     frames, and what is in them
 *   exec.c     a program with its streams
 *   tree.c     files and folders, out
 *   write.c    and in
 *   system.c   health, clock
 *
 * The host is trusted: it owns this machine. Its lengths are checked all the same, so that a
 * mistake of one side is an error on both.
 */
#ifndef ESTALO_AGENT_H
#define ESTALO_AGENT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The numbers that src/actors/agent/protocol.ts has, too; a spec compares them. */
enum {
  AGENT_PORT = 1024,
  PROTOCOL_VERSION = 1,
  HEADER_BYTES = 8,
  PAYLOAD_BYTES_MAX = 65536,
  STDIN_WINDOW_BYTES = 65536,
  NAME_BYTES_MAX = 255,
  PATH_BYTES_MAX = 4095,

  /* requests */
  EXEC = 1,
  HEALTH = 2,
  SET_TIME = 3,
  READ = 4,
  WRITE = 5,
  LIST = 6,
  STAT = 7,
  REMOVE = 8,

  /* the host, while a program runs */
  STDIN = 32,
  WINDOW_SIZE = 33,
  SIGNAL = 34,

  /* the agent */
  STARTED = 64,
  STDOUT = 65,
  STDERR = 66,
  EXITED = 67,
  STDIN_ROOM = 68,
  DONE = 69,
  FAILED = 70,
  HEALTH_IS = 71,

  /* files, both ways */
  ENTRY = 80,
  DATA = 81,
  HOLE = 82,
  LEAVE = 83,
  END = 84,

  /* flags of EXEC */
  EXEC_TERMINAL = 1,
  /* flags of READ, STAT and REMOVE */
  FOLLOW = 1,
  RECURSIVE = 2,

  ENTRY_BYTES = 40,
  /* of an entry's user and group: whoever the agent is */
  NOBODY_GIVEN = 0xffffffff,
};

struct frame {
  uint8_t type;
  uint32_t length;
  uint8_t payload[PAYLOAD_BYTES_MAX + 1]; /* one more: a zero, so that text ends */
};

/* A payload being read. Whatever is not there reads as zero and sets `bad`. */
struct reader {
  const uint8_t* at;
  size_t left;
  bool bad;
};

uint64_t get_number(struct reader* reader, size_t bytes);
/* A text with its terminating zero. */
const char* get_text(struct reader* reader);
struct reader read_payload(const struct frame* frame);

void put_number(uint8_t** at, uint64_t value, size_t bytes);

/* What there is of the next frame. */
enum arrival { WHOLE, NOT_YET, NO_FRAME };

/* Takes in what the host has sent; as recv() with those flags, but for EINTR. Needs that
 * next_frame() was asked until it had none: then there is room for the rest of one. */
ssize_t receive_bytes(int connection, int flags);
/* The next frame of what was taken in. */
enum arrival next_frame(struct frame* frame);
/* Waits for the next frame. False: the connection has ended, or says what is no frame. */
bool receive_frame(int connection, struct frame* frame);
/* Puts a frame behind those that are to be sent, which go when there is no more room for one. */
bool send_frame(int connection, uint8_t type, const void* payload, size_t length);
/* Sends all of them. */
bool flush_frames(int connection);
/* A frame's header. */
void put_header(uint8_t* header, uint8_t type, size_t length);

bool send_done(int connection);
/* Tells that `what` failed with `number`, an errno. */
bool send_failed(int connection, int number, const char* what);

/* Each serves one request and says the rest of what there is to say. */
void serve_exec(int connection, const struct frame* request);
/*
 * At the agent's start: its programs are to hear every signal, whatever ignores or blocks some
 * here, as a shell does for what it starts in its background.
 */
void free_signals(void);
void serve_health(int connection);
void serve_set_time(int connection, const struct frame* request);
void serve_read(int connection, const struct frame* request);
void serve_write(int connection, struct frame* frame);
void serve_list(int connection, const struct frame* request);
void serve_stat(int connection, const struct frame* request);
void serve_remove(int connection, const struct frame* request);

#endif

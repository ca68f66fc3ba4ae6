/*
 * Frames: an eight-byte header and a payload of at most 64 KiB, all numbers little-endian.
 *
 *   u8 type | u8 version | u16 0 | u32 length | payload
 *
 * As many as there are travel together, both ways: a call of the kernel for each would be most of
 * what a copy of small files takes. A process has one connection, so one buffer for each way.
 */
#include "agent.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

uint64_t get_number(struct reader* reader, size_t bytes) {
  uint64_t value = 0;
  if (reader->left < bytes) {
    reader->bad = true;
    return 0;
  }
  for (size_t i = 0; i < bytes; i++)
    value |= (uint64_t)reader->at[i] << (8 * i);
  reader->at += bytes;
  reader->left -= bytes;
  return value;
}

const char* get_text(struct reader* reader) {
  const char* text = (const char*)reader->at;
  size_t length = strnlen(text, reader->left);
  if (length == reader->left) {
    reader->bad = true;
    return "";
  }
  reader->at += length + 1;
  reader->left -= length + 1;
  return text;
}

struct reader read_payload(const struct frame* frame) {
  return (struct reader){.at = frame->payload, .left = frame->length};
}

void put_number(uint8_t** at, uint64_t value, size_t bytes) {
  for (size_t i = 0; i < bytes; i++)
    *(*at)++ = (uint8_t)(value >> (8 * i));
}

void put_header(uint8_t* header, uint8_t type, size_t length) {
  put_number(&header, type, 1);
  put_number(&header, PROTOCOL_VERSION, 1);
  put_number(&header, 0, 2);
  put_number(&header, length, 4);
}

/* The length that a header says, or -1 when it is none. */
static int64_t take_header(const uint8_t* header) {
  uint32_t length = header[4] | header[5] << 8 | header[6] << 16 | (uint32_t)header[7] << 24;
  bool known = header[1] == PROTOCOL_VERSION && header[2] == 0 && header[3] == 0;
  return known && length <= PAYLOAD_BYTES_MAX ? (int64_t)length : -1;
}

/* One way's bytes, `start` to `end`. They stay from call to call: what came of a frame that is not
 * whole yet, and frames that wait for company. */
struct bytes {
  size_t start, end;
  uint8_t at[HEADER_BYTES + PAYLOAD_BYTES_MAX];
};
static struct bytes arrived, leaving;

ssize_t receive_bytes(int connection, int flags) {
  size_t held = arrived.end - arrived.start;
  memmove(arrived.at, arrived.at + arrived.start, held);
  arrived.start = 0;
  arrived.end = held;
  ssize_t count;
  do
    count = recv(connection, arrived.at + held, sizeof arrived.at - held, flags);
  while (count < 0 && errno == EINTR);
  if (count > 0) arrived.end += (size_t)count;
  return count;
}

enum arrival next_frame(struct frame* frame) {
  const uint8_t* at = arrived.at + arrived.start;
  size_t held = arrived.end - arrived.start;
  if (held < HEADER_BYTES) return NOT_YET;
  int64_t length = take_header(at);
  if (length < 0) return NO_FRAME;
  if (held - HEADER_BYTES < (size_t)length) return NOT_YET;
  frame->type = at[0];
  frame->length = (uint32_t)length;
  memcpy(frame->payload, at + HEADER_BYTES, (size_t)length);
  frame->payload[length] = 0;
  arrived.start += HEADER_BYTES + (size_t)length;
  return WHOLE;
}

bool receive_frame(int connection, struct frame* frame) {
  enum arrival arrival;
  while ((arrival = next_frame(frame)) == NOT_YET) {
    if (receive_bytes(connection, 0) <= 0) return false;
  }
  return arrival == WHOLE;
}

bool flush_frames(int connection) {
  while (leaving.start < leaving.end) {
    ssize_t count =
        send(connection, leaving.at + leaving.start, leaving.end - leaving.start, MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return false;
    leaving.start += (size_t)count;
  }
  leaving.start = leaving.end = 0;
  return true;
}

bool send_frame(int connection, uint8_t type, const void* payload, size_t length) {
  if (sizeof leaving.at - leaving.end < HEADER_BYTES + length && !flush_frames(connection))
    return false;
  put_header(leaving.at + leaving.end, type, length);
  if (length > 0) memcpy(leaving.at + leaving.end + HEADER_BYTES, payload, length);
  leaving.end += HEADER_BYTES + length;
  return true;
}

bool send_done(int connection) {
  return send_frame(connection, DONE, NULL, 0);
}

bool send_failed(int connection, int number, const char* what) {
  uint8_t payload[4 + 256], *at = payload;
  size_t length = strnlen(what, 255);
  put_number(&at, (uint32_t)number, 4);
  memcpy(at, what, length);
  at[length] = 0;
  return send_frame(connection, FAILED, payload, 4 + length + 1);
}

/*
 * Frames: an eight-byte header and a payload of at most 64 KiB, all numbers little-endian.
 *
 *   u8 type | u8 version | u16 0 | u32 length | payload
 */
#include "agent.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

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

int64_t take_header(const uint8_t* header) {
  uint32_t length = header[4] | header[5] << 8 | header[6] << 16 | (uint32_t)header[7] << 24;
  bool known = header[1] == PROTOCOL_VERSION && header[2] == 0 && header[3] == 0;
  return known && length <= PAYLOAD_BYTES_MAX ? (int64_t)length : -1;
}

static bool receive_all(int connection, uint8_t* bytes, size_t length) {
  while (length > 0) {
    ssize_t count = recv(connection, bytes, length, 0);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    bytes += count;
    length -= (size_t)count;
  }
  return true;
}

bool receive_frame(int connection, struct frame* frame) {
  uint8_t header[HEADER_BYTES];
  if (!receive_all(connection, header, sizeof header)) return false;
  int64_t length = take_header(header);
  if (length < 0) return false;
  frame->type = header[0];
  frame->length = (uint32_t)length;
  frame->payload[length] = 0;
  return receive_all(connection, frame->payload, (size_t)length);
}

bool send_frame(int connection, uint8_t type, const void* payload, size_t length) {
  uint8_t header[HEADER_BYTES];
  put_header(header, type, length);
  struct iovec parts[] = {{header, sizeof header}, {(void*)payload, length}};
  struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
  for (size_t left = sizeof header + length; left > 0;) {
    ssize_t count = sendmsg(connection, &message, MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return false;
    left -= (size_t)count;
    for (int i = 0; i < 2; i++) {
      size_t part = (size_t)count < parts[i].iov_len ? (size_t)count : parts[i].iov_len;
      parts[i].iov_base = (uint8_t*)parts[i].iov_base + part;
      parts[i].iov_len -= part;
      count -= (ssize_t)part;
    }
  }
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

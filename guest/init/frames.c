/*
 * The command's standard streams as frames on the serial line:
 *
 *   +------+------+------+--------+-----------------+
 *   | 0xE5 | 0x7A | type | length | length bytes    |      length: 0..255
 *   +------+------+------+--------+-----------------+
 *
 *   guest to host   1 STDOUT   2 STDERR   3 STARTED (process id, u32le)
 *   host to guest   16 STDIN (empty: end)   17 WINSIZE (rows, columns, u16le)   18 SIGNAL (u8)
 *
 * What is outside a frame is console text. Nothing is read from one side while the other has not
 * taken what was read before: a full pipe stops the reading of frames, the serial line's buffer
 * fills, and RTS stops the monitor.
 */
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <termios.h>
#include <unistd.h>

enum { MAGIC_0 = 0xE5, MAGIC_1 = 0x7A, HEADER_BYTES = 4, MAX_PAYLOAD = 255 };
enum {
  STDOUT_FRAME = 1,
  STDERR_FRAME = 2,
  STARTED_FRAME = 3,
  STDIN_FRAME = 16,
  WINSIZE_FRAME = 17,
  SIGNAL_FRAME = 18
};
enum { MAX_FRAMES = 16, END_OF_INPUT = 4 /* ^D */, CONSOLE_LOG_LEVEL = 8 };

static int line = -1;

/* Bytes on their way to one descriptor. */
struct outgoing {
  size_t start, end;
  uint8_t bytes[MAX_FRAMES * (HEADER_BYTES + MAX_PAYLOAD)];
};

static struct outgoing to_host, to_command;

/* The frame being received: header and payload as they came. */
static struct {
  size_t length;
  uint8_t bytes[HEADER_BYTES + MAX_PAYLOAD];
} incoming;

static bool end_of_input;

static bool is_empty(const struct outgoing* queue) {
  return queue->start == queue->end;
}

/* Sends what the descriptor takes now; true if it failed for good. */
static bool flush(struct outgoing* queue, int descriptor) {
  while (!is_empty(queue)) {
    ssize_t count = write(descriptor, queue->bytes + queue->start, queue->end - queue->start);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno != EAGAIN;
    queue->start += (size_t)count;
  }
  queue->start = queue->end = 0;
  return false;
}

static void put_frame(uint8_t type, const uint8_t* payload, size_t length) {
  uint8_t header[HEADER_BYTES] = {MAGIC_0, MAGIC_1, type, (uint8_t)length};
  memcpy(to_host.bytes + to_host.end, header, HEADER_BYTES);
  memcpy(to_host.bytes + to_host.end + HEADER_BYTES, payload, length);
  to_host.end += HEADER_BYTES + length;
}

/* Reads the command's output into frames; false when there is none now or never again. Needs
 * to_host empty. */
static bool forward_output(int* descriptor, uint8_t type) {
  static uint8_t bytes[MAX_FRAMES * MAX_PAYLOAD];
  ssize_t count = *descriptor < 0 ? 0 : read(*descriptor, bytes, sizeof bytes);
  if (count <= 0) {
    if (*descriptor >= 0 && (count == 0 || (errno != EAGAIN && errno != EINTR))) {
      close(*descriptor);
      *descriptor = -1;
    }
    return false;
  }
  for (size_t done = 0; done < (size_t)count; done += MAX_PAYLOAD) {
    size_t rest = (size_t)count - done;
    put_frame(type, bytes + done, rest < MAX_PAYLOAD ? rest : MAX_PAYLOAD);
  }
  flush(&to_host, line);
  return true;
}

static void resize_window(int terminal, const uint8_t* payload) {
  struct winsize size = {
      .ws_row = (uint16_t)(payload[0] | payload[1] << 8),
      .ws_col = (uint16_t)(payload[2] | payload[3] << 8),
  };
  ioctl(terminal, TIOCSWINSZ, &size);
}

static void signal_command(int terminal, pid_t command, uint8_t number) {
  pid_t foreground = 0;
  bool has_foreground = ioctl(terminal, TIOCGPGRP, &foreground) == 0 && foreground > 0;
  kill(-(has_foreground ? foreground : command), number);
}

static void take_frame(const struct options* options, struct streams* streams, pid_t command) {
  const uint8_t* payload = incoming.bytes + HEADER_BYTES;
  size_t length = incoming.bytes[3];
  bool terminal = options->stdio == STDIO_TERMINAL;

  switch (incoming.bytes[2]) {
  case STDIN_FRAME:
    if (length > 0)
      memcpy(to_command.bytes, payload, length);
    else if (terminal)
      to_command.bytes[length++] = END_OF_INPUT;
    else
      end_of_input = true;
    to_command.end = streams->input < 0 ? 0 : length;
    break;
  case WINSIZE_FRAME:
    if (terminal && length >= 4) resize_window(streams->output, payload);
    break;
  case SIGNAL_FRAME:
    if (length >= 1) signal_command(terminal ? streams->output : -1, command, payload[0]);
    break;
  default:
    break;
  }
}

/* Takes one byte of a frame; true when the frame is whole. */
static bool take_byte(uint8_t byte) {
  if (incoming.length == 0 && byte != MAGIC_0) return false;
  if (incoming.length == 1 && byte != MAGIC_1) {
    incoming.length = byte == MAGIC_0;
    return false;
  }
  incoming.bytes[incoming.length++] = byte;
  return incoming.length >= HEADER_BYTES &&
         incoming.length == HEADER_BYTES + (size_t)incoming.bytes[3];
}

static void flush_input(struct streams* streams) {
  if (streams->input >= 0 && flush(&to_command, streams->input))
    to_command.start = to_command.end = 0;
  if (end_of_input && is_empty(&to_command) && streams->input >= 0) {
    close(streams->input);
    streams->input = -1;
  }
}

/* Bytes from the line, kept until their frames can be taken. */
static struct {
  size_t start, end;
  uint8_t bytes[1024];
} received;

static void take_received(const struct options* options, struct streams* streams, pid_t command) {
  while (received.start < received.end && is_empty(&to_command)) {
    if (!take_byte(received.bytes[received.start++])) continue;
    take_frame(options, streams, command);
    incoming.length = 0;
    flush_input(streams);
  }
}

static void receive(void) {
  if (received.start < received.end) return;
  ssize_t count = read(line, received.bytes, sizeof received.bytes);
  received.start = 0;
  received.end = count > 0 ? (size_t)count : 0;
}

void open_frames(void) {
  struct termios settings;
  klogctl(CONSOLE_LOG_LEVEL, NULL, 1);
  line = open("/dev/ttyS0", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
  if (tcgetattr(line, &settings) < 0) return;
  cfmakeraw(&settings);
  settings.c_cflag |= CS8 | CLOCAL | CREAD | CRTSCTS;
  settings.c_cc[VMIN] = 1;
  settings.c_cc[VTIME] = 0;
  cfsetspeed(&settings, B115200);
  tcsetattr(line, TCSANOW, &settings);
}

/* After the command: what its pipes still hold, without waiting for others that hold them open. */
static void drain(struct streams* streams) {
  int flags = fcntl(line, F_GETFL);
  fcntl(line, F_SETFL, flags & ~O_NONBLOCK);
  flush(&to_host, line);
  while (forward_output(&streams->output, STDOUT_FRAME))
    continue;
  while (forward_output(&streams->error, STDERR_FRAME))
    continue;
  tcdrain(line);
}

static void announce(pid_t command) {
  uint32_t id = (uint32_t)command;
  uint8_t payload[4] = {(uint8_t)id, (uint8_t)(id >> 8), (uint8_t)(id >> 16), (uint8_t)(id >> 24)};
  put_frame(STARTED_FRAME, payload, sizeof payload);
  flush(&to_host, line);
}

void carry_frames(const struct options* options, struct streams* streams, int signals,
                  struct outcome* outcome) {
  announce(outcome->command);
  for (;;) {
    bool sending = !is_empty(&to_host), feeding = !is_empty(&to_command);
    struct pollfd polled[] = {
        {.fd = signals, .events = POLLIN},
        {.fd = line, .events = (short)((feeding ? 0 : POLLIN) | (sending ? POLLOUT : 0))},
        {.fd = sending ? -1 : streams->output, .events = POLLIN},
        {.fd = sending ? -1 : streams->error, .events = POLLIN},
        {.fd = feeding ? streams->input : -1, .events = POLLOUT},
    };
    if (poll(polled, sizeof polled / sizeof *polled, -1) < 0) continue;
    if (polled[1].revents & POLLOUT) flush(&to_host, line);
    if (polled[2].revents && is_empty(&to_host)) forward_output(&streams->output, STDOUT_FRAME);
    if (polled[3].revents && is_empty(&to_host)) forward_output(&streams->error, STDERR_FRAME);
    if (polled[4].revents) flush_input(streams);
    if (polled[1].revents & POLLIN) receive();
    take_received(options, streams, outcome->command);
    if (polled[0].revents && take_signals(signals, outcome)) break;
  }
  drain(streams);
}

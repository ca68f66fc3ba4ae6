/* The command line in, numbers and text out: COM1, polled. */
#include "guest.h"

#define COM1 0x3f8
#define LINE_STATUS 5
#define TRANSMITTER_EMPTY 0x20

int equal(const char* left, const char* right) {
  while (*left != 0 && *left == *right)
    left++, right++;
  return *left == *right;
}

/* The rest of `text` after `prefix`, or 0. */
static const char* after(const char* text, const char* prefix) {
  while (*prefix != 0) {
    if (*text++ != *prefix++) return 0;
  }
  return text;
}

static uint64_t number(const char** text) {
  uint64_t value = 0;
  uint32_t base = 10;
  if ((*text)[0] == '0' && (*text)[1] == 'x') base = 16, *text += 2;
  for (;; ++*text) {
    uint32_t digit;
    if (**text >= '0' && **text <= '9')
      digit = (uint32_t)(**text - '0');
    else if (base == 16 && **text >= 'a' && **text <= 'f')
      digit = (uint32_t)(**text - 'a' + 10);
    else
      return value;
    value = value * base + digit;
  }
}

static uint32_t number_in(const char* text, uint32_t min, uint32_t max) {
  uint64_t value = number(&text);
  return value < min ? min : value > max ? max : (uint32_t)value;
}

static void word(const char* text, char* to, uint32_t size) {
  uint32_t i = 0;
  for (; i + 1 < size && text[i] != 0 && text[i] != ' '; i++)
    to[i] = text[i];
  to[i] = 0;
}

/* SIZE@BASE:IRQ */
static void window(const char* text) {
  while (*text != '@' && *text != 0 && *text != ' ')
    text++;
  if (*text != '@' || job.windows == sizeof job.window / sizeof job.window[0]) return;
  struct window* window = &job.window[job.windows];
  text++;
  window->base = number(&text);
  if (*text != ':') return;
  text++;
  window->irq = (uint32_t)number(&text);
  job.windows++;
}

static void parse_word(const char* text) {
  const char* value;
  if ((value = after(text, "bench=")))
    word(value, job.name, sizeof job.name);
  else if ((value = after(text, "end=")))
    word(value, job.end, sizeof job.end);
  else if ((value = after(text, "n=")))
    job.n = number_in(value, 1, SAMPLES_MAX);
  else if ((value = after(text, "ring=")))
    job.ring = number_in(value, 0, 3) == 0 ? 0 : 3;
  else if ((value = after(text, "depth=")))
    job.depth = number_in(value, 1, 64);
  else if ((value = after(text, "bytes=")))
    job.bytes = number_in(value, 1, 128 << 10);
  else if ((value = after(text, "ticks=")))
    job.ticks = number(&value);
  else if ((value = after(text, "ahead=")))
    job.ahead = number_in(value, 4, 1024);
  else if ((value = after(text, "random=")))
    job.random = number_in(value, 0, 1);
  else if ((value = after(text, "op=")))
    word(value, job.op, sizeof job.op);
  else if ((value = after(text, "virtio_mmio.device=")))
    window(value);
}

void parse_command_line(const char* line) {
  job.n = 1000;
  job.ring = 3;
  job.depth = 1;
  job.bytes = 64;
  job.ahead = 256;
  while (*line != 0) {
    while (*line == ' ')
      line++;
    parse_word(line);
    while (*line != ' ' && *line != 0)
      line++;
  }
}

void print(const char* text) {
  for (; *text != 0; text++) {
    while ((inb(COM1 + LINE_STATUS) & TRANSMITTER_EMPTY) == 0) {
    }
    outb(COM1, (uint8_t)*text);
  }
}

void print_number(uint64_t value) {
  char digits[21];
  uint32_t at = sizeof digits - 1;
  digits[at] = 0;
  do
    digits[--at] = (char)('0' + value % 10);
  while ((value /= 10) > 0);
  print(digits + at);
}

void print_hex(uint64_t value) {
  char digits[19];
  uint32_t at = sizeof digits - 1;
  digits[at] = 0;
  do
    digits[--at] = "0123456789abcdef"[value & 15];
  while ((value >>= 4) > 0);
  print("0x");
  print(digits + at);
}

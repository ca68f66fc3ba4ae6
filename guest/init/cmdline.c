/*
 * The words of the kernel's command line that are init's:
 *
 *   estalo.cmd=ARG,ARG,...   estalo.env=KEY=VALUE,...   estalo.cwd=DIRECTORY   estalo.hostname=NAME
 *   estalo.stdio=console | frames | frames,tty,ROWS,COLUMNS
 *
 * Every value is percent-encoded, so that no argument holds a space or a comma. Decoding is in
 * place: it never grows.
 */
#include "init.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { COMMAND_LINE_BYTES = 4096, DEFAULT_ROWS = 24, DEFAULT_COLUMNS = 80 };

static char line[COMMAND_LINE_BYTES + 1];

static int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c |= 0x20;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static char* decode(char* text) {
  char* out = text;
  for (const char* in = text; *in; in++) {
    int high = *in == '%' ? hex_digit(in[1]) : -1;
    int low = high >= 0 ? hex_digit(in[2]) : -1;
    if (low >= 0) in += 2;
    *out++ = low >= 0 ? (char)(high << 4 | low) : *in;
  }
  *out = 0;
  return text;
}

/* Splits `text` at its commas into at most MAX_WORDS words; no text is no word, not an empty one.
 */
static size_t split(char* text, char** words) {
  size_t count = 0;
  for (char* rest = *text ? text : NULL; rest && count < MAX_WORDS;) {
    char* word = strsep(&rest, ",");
    words[count++] = decode(word);
  }
  return count;
}

/* Of two values for a name the later counts. */
static void set_variable(struct options* options, char* assignment) {
  size_t name_length = strcspn(assignment, "=");
  size_t i = 0;
  while (i < options->envc && (strncmp(options->envp[i], assignment, name_length + 1) != 0))
    i++;
  if (i == MAX_WORDS) return;
  options->envp[i] = assignment;
  if (i == options->envc) options->envc++;
}

static void set_variables(struct options* options, char* text) {
  char* words[MAX_WORDS];
  size_t count = split(text, words);
  for (size_t i = 0; i < count; i++)
    set_variable(options, words[i]);
}

static void parse_stdio(char* text, struct options* options) {
  char* mode = strsep(&text, ",");
  if (strcmp(mode, "frames") != 0) return;
  options->stdio = STDIO_PIPES;
  char* kind = text ? strsep(&text, ",") : NULL;
  if (!kind || strcmp(kind, "tty") != 0) return;
  options->stdio = STDIO_TERMINAL;
  char* rows = text ? strsep(&text, ",") : NULL;
  if (rows && text) {
    options->rows = (uint16_t)atoi(rows);
    options->columns = (uint16_t)atoi(text);
  }
}

static char* value_of(char* word, const char* key) {
  size_t length = strlen(key);
  return strncmp(word, key, length) == 0 ? word + length : NULL;
}

static void parse_word(char* word, struct options* options) {
  char* value;
  if ((value = value_of(word, "cmd=")))
    options->argc = split(value, options->argv);
  else if ((value = value_of(word, "env=")))
    set_variables(options, value);
  else if ((value = value_of(word, "cwd=")))
    options->directory = decode(value);
  else if ((value = value_of(word, "hostname=")))
    options->hostname = decode(value);
  else if ((value = value_of(word, "stdio=")))
    parse_stdio(value, options);
}

void read_options(struct options* options) {
  /* The kernel's may say what its C library must not use (GLIBC_TUNABLES, see kernel/patches). */
  for (char** inherited = environ; *inherited; inherited++)
    set_variable(options, *inherited);
  set_variable(options, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
  set_variable(options, "HOME=/root");
  set_variable(options, "TERM=linux");
  options->directory = "/root";
  options->hostname = "estalo";
  options->rows = DEFAULT_ROWS;
  options->columns = DEFAULT_COLUMNS;

  int file = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
  if (file < 0) return;
  ssize_t length = read(file, line, COMMAND_LINE_BYTES);
  close(file);
  if (length <= 0) return;
  line[length] = 0;
  for (char* rest = line; rest;) {
    char* word = value_of(strsep(&rest, " \n"), "estalo.");
    if (word) parse_word(word, options);
  }
}

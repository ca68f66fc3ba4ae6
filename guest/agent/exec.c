/*
 * A program with its streams. The host sends input only where there is room for it here, so that
 * what comes behind the input - a signal, a window's size, the end of the connection - is always
 * heard.
 *
 * Where the connection ends first, the program and its process group are killed.
 */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

enum { CANNOT_RUN = 126, NOT_FOUND = 127, END_OF_INPUT = 4 /* ^D */, GROUPS_MAX = 64 };
enum { WORDS_MAX = 16384, OUTPUT_BYTES = 16384, VARIABLES_MAX = 4096 };
/* Reads that empty two full pipes; a program that was left behind may go on writing for ever. */
enum { ROUNDS_MAX = 64 };

/* What the host asked for; texts point into the request's frame. */
struct order {
  bool terminal;
  struct winsize size;
  const char *directory, *user;
  const char* argv[WORDS_MAX + 1];
  const char* envp[VARIABLES_MAX + 1];
};

/* Who the program is to be. */
struct identity {
  bool changes;
  uid_t uid;
  gid_t gid, groups[GROUPS_MAX];
  int group_count;
};

/* A running program: our ends of its streams, -1 where there is none. */
struct program {
  pid_t pid;
  int ended, input, output, error;
  bool terminal;
  /* Input on its way to the program. */
  size_t start, end;
  uint8_t stdin_bytes[STDIN_WINDOW_BYTES + 1];
  bool end_of_input;
  size_t room_to_tell;
};

/* Bytes on their way to the host: at most one frame of output and a few small ones. */
static struct {
  size_t start, end;
  uint8_t bytes[HEADER_BYTES + OUTPUT_BYTES + 64];
} to_host;

static bool read_environment(struct reader* reader, size_t count, const char** envp) {
  size_t own = 0;
  for (size_t i = 0; i < count; i++)
    envp[own++] = get_text(reader);
  for (char** inherited = environ; *inherited && own < VARIABLES_MAX; inherited++) {
    size_t name = strcspn(*inherited, "=") + 1, i = 0;
    while (i < count && strncmp(envp[i], *inherited, name) != 0)
      i++;
    if (i == count) envp[own++] = *inherited;
  }
  envp[own] = NULL;
  return !reader->bad;
}

static bool read_order(const struct frame* request, struct order* order) {
  struct reader reader = read_payload(request);
  order->terminal = get_number(&reader, 4) & EXEC_TERMINAL;
  order->size.ws_row = (unsigned short)get_number(&reader, 2);
  order->size.ws_col = (unsigned short)get_number(&reader, 2);
  size_t argc = get_number(&reader, 2), envc = get_number(&reader, 2);
  order->directory = get_text(&reader);
  order->user = get_text(&reader);
  if (reader.bad || argc == 0 || argc > WORDS_MAX || envc > VARIABLES_MAX) return false;
  for (size_t i = 0; i < argc; i++)
    order->argv[i] = get_text(&reader);
  order->argv[argc] = NULL;
  return read_environment(&reader, envc, order->envp) && reader.left == 0;
}

/* A user's name or number; nobody: whoever the agent is. */
static bool find_identity(const char* user, struct identity* identity) {
  char* rest;
  if (!*user) return true;
  struct passwd* entry = getpwnam(user);
  if (!entry) {
    unsigned long number = strtoul(user, &rest, 10);
    if (*rest || number >= NOBODY_GIVEN) return false;
    identity->uid = (uid_t)number;
    identity->gid = (gid_t)number;
    entry = getpwuid((uid_t)number);
  }
  identity->changes = true;
  if (!entry) return true;
  identity->uid = entry->pw_uid;
  identity->gid = entry->pw_gid;
  identity->group_count = GROUPS_MAX;
  if (getgrouplist(entry->pw_name, entry->pw_gid, identity->groups, &identity->group_count) < 0)
    identity->group_count = GROUPS_MAX;
  return true;
}

static bool open_pipes(int child[3], struct program* program) {
  int* parent[3] = {&program->input, &program->output, &program->error};
  for (int stream = 0; stream < 3; stream++) {
    int pair[2];
    if (pipe2(pair, O_CLOEXEC) < 0) return false;
    child[stream] = pair[stream != STDIN_FILENO];
    *parent[stream] = pair[stream == STDIN_FILENO];
    fcntl(*parent[stream], F_SETFL, O_NONBLOCK);
  }
  return true;
}

static bool open_terminal(const struct winsize* size, int child[3], struct program* program) {
  int unlock = 0;
  int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
  if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock) < 0) return false;
  if (size->ws_row > 0 && size->ws_col > 0) ioctl(master, TIOCSWINSZ, size);
  int terminal = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  program->input = program->output = master;
  for (int stream = 0; stream < 3; stream++)
    child[stream] = terminal;
  return terminal >= 0;
}

static void complain(const char* name) {
  const char* reason = strerror(errno);
  write(STDERR_FILENO, name, strlen(name));
  write(STDERR_FILENO, ": ", 2);
  write(STDERR_FILENO, reason, strlen(reason));
  write(STDERR_FILENO, "\n", 1);
}

/*
 * As execvp() does, with the program's own PATH. Looks first: an execve() that fails is far dearer,
 * and all folders but one have no such program.
 */
static void become_program(const char* const* argv, const char* const* envp) {
  static char path[PATH_BYTES_MAX + 1];
  const char* folder = "/usr/local/bin:/bin:/usr/bin";
  int reason = ENOENT;
  if (strchr(argv[0], '/')) {
    execve(argv[0], (char* const*)argv, (char* const*)envp);
    return;
  }
  for (size_t i = 0; envp[i]; i++) {
    if (strncmp(envp[i], "PATH=", 5) == 0) folder = envp[i] + 5;
  }
  for (size_t length;; folder += length + 1) {
    length = strcspn(folder, ":");
    int size = snprintf(path, sizeof path, "%.*s%s%s", (int)length, folder, length > 0 ? "/" : "",
                        argv[0]);
    if (size > 0 && (size_t)size < sizeof path) {
      if (access(path, X_OK) == 0) execve(path, (char* const*)argv, (char* const*)envp);
      if (errno == EACCES)
        reason = EACCES;
      else if (errno != ENOENT && errno != ENOTDIR)
        return;
    }
    if (!folder[length]) break;
  }
  errno = reason;
}

/* Signals that a program is to hear: what is ignored stays so over fork and exec. */
static uint8_t unheard[NSIG] = {SIGPIPE};
static size_t unheard_count = 1;

void free_signals(void) {
  struct sigaction action;
  sigset_t none;
  for (int number = 1; number < NSIG; number++)
    if (number != SIGPIPE && sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
      unheard[unheard_count++] = (uint8_t)number;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
}

_Noreturn static void become(const struct order* order, const struct identity* identity,
                             const int child[3]) {
  for (size_t i = 0; i < unheard_count; i++)
    signal(unheard[i], SIG_DFL);
  setsid();
  for (int stream = 0; stream < 3; stream++)
    dup2(child[stream], stream);
  if (order->terminal) ioctl(STDIN_FILENO, TIOCSCTTY, 0);
  if (identity->changes && (setgroups((size_t)identity->group_count, identity->groups) < 0 ||
                            setgid(identity->gid) < 0 || setuid(identity->uid) < 0)) {
    complain(order->user);
    _exit(CANNOT_RUN);
  }
  if (*order->directory && chdir(order->directory) < 0) {
    complain(order->directory);
    _exit(CANNOT_RUN);
  }
  become_program(order->argv, order->envp);
  int status = errno == ENOENT ? NOT_FOUND : CANNOT_RUN;
  complain(order->argv[0]);
  _exit(status);
}

/*
 * The child borrows our memory until it is the program: a copy, for a moment, would be among the
 * dearest parts of a short command. vfork() returns then, so there is a group to be signalled.
 */
static bool start(const struct order* order, const struct identity* identity,
                  struct program* program) {
  int child[3] = {-1, -1, -1};
  program->terminal = order->terminal;
  bool open =
      program->terminal ? open_terminal(&order->size, child, program) : open_pipes(child, program);
  if (!open) return false;
  program->pid = vfork();
  if (program->pid == 0) become(order, identity, child);
  for (int stream = 0; stream < 3; stream++) {
    if (stream == 0 || child[stream] != child[stream - 1]) close(child[stream]);
  }
  if (program->pid < 0) return false;
  program->ended = (int)syscall(SYS_pidfd_open, program->pid, 0);
  if (program->ended >= 0) return true;
  /* Nobody would hear of its end. */
  int reason = errno;
  kill(-program->pid, SIGKILL);
  waitpid(program->pid, NULL, 0);
  errno = reason;
  return false;
}

static void put_frame(uint8_t type, const void* payload, size_t length) {
  uint8_t* at = to_host.bytes + to_host.end;
  put_header(at, type, length);
  memcpy(at + HEADER_BYTES, payload, length);
  to_host.end += HEADER_BYTES + length;
}

static bool nothing_to_send(void) {
  return to_host.start == to_host.end;
}

/* False: the connection has ended. */
static bool flush(int connection) {
  while (!nothing_to_send()) {
    ssize_t count = send(connection, to_host.bytes + to_host.start, to_host.end - to_host.start,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno == EAGAIN;
    to_host.start += (size_t)count;
  }
  to_host.start = to_host.end = 0;
  return true;
}

/* Output as a frame; needs that there is nothing to send. False: there is none now. */
static bool take_output(int* stream, uint8_t type) {
  static uint8_t bytes[OUTPUT_BYTES];
  if (*stream < 0) return false;
  ssize_t count = read(*stream, bytes, sizeof bytes);
  if (count > 0) {
    put_frame(type, bytes, (size_t)count);
    return true;
  }
  if (count == 0 || (errno != EAGAIN && errno != EINTR)) {
    *stream = -1;
  }
  return false;
}

static void close_input(struct program* program) {
  if (program->input >= 0 && !program->terminal) close(program->input);
  program->input = -1;
}

static void feed(struct program* program) {
  while (program->input >= 0 && program->start < program->end) {
    ssize_t count =
        write(program->input, program->stdin_bytes + program->start, program->end - program->start);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return;
    if (count < 0) {
      close_input(program);
      break;
    }
    program->start += (size_t)count;
    program->room_to_tell += (size_t)count;
  }
  /* Nobody reads it any more: it is room again. */
  if (program->input < 0) {
    program->room_to_tell += program->end - program->start;
    program->start = program->end;
  }
  if (program->start == program->end) {
    program->start = program->end = 0;
    if (program->end_of_input) close_input(program);
  }
}

static bool take_input(struct program* program, const uint8_t* bytes, size_t length) {
  size_t held = program->end - program->start;
  if (program->end_of_input || held + length > STDIN_WINDOW_BYTES) return false;
  memmove(program->stdin_bytes, program->stdin_bytes + program->start, held);
  memcpy(program->stdin_bytes + held, bytes, length);
  program->start = 0;
  program->end = held + length;
  if (length == 0) {
    program->end_of_input = true;
    if (program->terminal) program->stdin_bytes[program->end++] = END_OF_INPUT;
  }
  feed(program);
  return true;
}

static void signal_program(const struct program* program, int number) {
  pid_t foreground = 0;
  bool has_foreground = program->terminal && program->output >= 0 &&
                        ioctl(program->output, TIOCGPGRP, &foreground) == 0 && foreground > 0;
  kill(-(has_foreground ? foreground : program->pid), number);
}

/* False: the host says what it may not. */
static bool take_frame(struct program* program, const struct frame* frame) {
  struct reader reader = read_payload(frame);
  if (frame->type == STDIN) return take_input(program, frame->payload, frame->length);
  if (frame->type == WINDOW_SIZE) {
    struct winsize size = {0};
    size.ws_row = (unsigned short)get_number(&reader, 2);
    size.ws_col = (unsigned short)get_number(&reader, 2);
    if (program->terminal && program->output >= 0 && !reader.bad)
      ioctl(program->output, TIOCSWINSZ, &size);
  } else if (frame->type == SIGNAL) {
    int number = (int)get_number(&reader, 1);
    if (!reader.bad && number < NSIG) signal_program(program, number);
  } else {
    return false;
  }
  return !reader.bad && reader.left == 0;
}

/* The frames that are there. False: the host says what it may not. */
static bool take_frames(struct program* program) {
  static struct frame frame;
  enum arrival arrival;
  while ((arrival = next_frame(&frame)) == WHOLE) {
    if (!take_frame(program, &frame)) return false;
  }
  return arrival == NOT_YET;
}

/* The host's bytes, as far as there are some, and their frames. False: the connection has ended. */
static bool receive(int connection, struct program* program) {
  ssize_t count = receive_bytes(connection, MSG_DONTWAIT);
  if (count < 0) return errno == EAGAIN;
  return count > 0 && take_frames(program);
}

static void tell_room(struct program* program) {
  uint8_t payload[4], *at = payload;
  /* After its end there is no more input, and the ^D that stands for it was nobody's byte. */
  if (program->room_to_tell == 0 || program->end_of_input) return;
  put_number(&at, program->room_to_tell, 4);
  program->room_to_tell = 0;
  put_frame(STDIN_ROOM, payload, sizeof payload);
}

/* Carries the streams until the program has ended; false: the connection ended before. */
static bool carry(int connection, struct program* program) {
  /* What came with the request. */
  if (!take_frames(program)) return false;
  for (;;) {
    bool sending = !nothing_to_send();
    struct pollfd polled[] = {
        {.fd = connection, .events = (short)(POLLIN | (sending ? POLLOUT : 0))},
        {.fd = program->ended, .events = POLLIN},
        {.fd = sending ? -1 : program->output, .events = POLLIN},
        {.fd = sending ? -1 : program->error, .events = POLLIN},
        {.fd = program->start < program->end ? program->input : -1, .events = POLLOUT},
    };
    if (poll(polled, sizeof polled / sizeof *polled, -1) < 0) continue;
    if (polled[4].revents) feed(program);
    if (polled[0].revents & (POLLIN | POLLHUP | POLLERR) && !receive(connection, program))
      return false;
    if (nothing_to_send()) tell_room(program);
    if (nothing_to_send() && polled[2].revents) take_output(&program->output, STDOUT);
    if (!flush(connection)) return false;
    if (nothing_to_send() && polled[3].revents) take_output(&program->error, STDERR);
    if (!flush(connection)) return false;
    if (polled[1].revents) return true;
  }
}

/* What the program has left in its streams, and how it ended. */
static void send_rest(int connection, struct program* program) {
  int status, flags = fcntl(connection, F_GETFL);
  uint8_t end[2];
  fcntl(connection, F_SETFL, flags & ~O_NONBLOCK);
  for (int rounds = 0; rounds < ROUNDS_MAX; rounds++) {
    size_t left = to_host.end - to_host.start;
    if (left > 0 &&
        send(connection, to_host.bytes + to_host.start, left, MSG_NOSIGNAL) < (ssize_t)left)
      return;
    to_host.start = to_host.end = 0;
    if (!take_output(&program->output, STDOUT) && !take_output(&program->error, STDERR)) break;
  }
  waitpid(program->pid, &status, 0);
  end[0] = WIFSIGNALED(status);
  end[1] = (uint8_t)(WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
  send_frame(connection, EXITED, end, sizeof end);
}

void serve_exec(int connection, const struct frame* request) {
  static struct order order;
  static struct program program = {.input = -1, .output = -1, .error = -1};
  struct identity identity = {0};
  uint8_t payload[4], *at = payload;

  if (!read_order(request, &order)) {
    send_failed(connection, EPROTO, "exec");
  } else if (!find_identity(order.user, &identity)) {
    send_failed(connection, ENOENT, "user");
  } else if (!start(&order, &identity, &program)) {
    send_failed(connection, errno, "exec");
  } else {
    put_number(&at, (uint32_t)program.pid, 4);
    put_frame(STARTED, payload, sizeof payload);
    if (flush(connection) && carry(connection, &program)) {
      send_rest(connection, &program);
    } else {
      kill(-program.pid, SIGKILL);
      waitpid(program.pid, NULL, 0);
    }
  }
}

/*
 * Starting a program: its session, its terminal or pipes, its environment.
 *
 * vfork(2) throughout: the child borrows init's memory until it has become the program, which saves
 * copying page tables. So a child writes nothing but its own stack, and the streams it gets are
 * made before it exists.
 */
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

enum { CANNOT_RUN = 126, NOT_FOUND = 127 };

void become_program(char* const argv[]) {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  execvp(argv[0], argv);
  const char* reason = strerror(errno);
  int status = errno == ENOENT ? NOT_FOUND : CANNOT_RUN;
  write(STDERR_FILENO, argv[0], strlen(argv[0]));
  write(STDERR_FILENO, ": ", 2);
  write(STDERR_FILENO, reason, strlen(reason));
  write(STDERR_FILENO, "\n", 1);
  _exit(status);
}

/* The child's three streams, and the parent's ends of them. */
struct ends {
  int child[3];
  struct streams parent;
};

static void open_pipes(struct ends* ends) {
  int* parent[3] = {&ends->parent.input, &ends->parent.output, &ends->parent.error};
  for (int stream = 0; stream < 3; stream++) {
    int pair[2] = {-1, -1};
    pipe2(pair, O_CLOEXEC);
    bool input = stream == STDIN_FILENO;
    ends->child[stream] = pair[input ? 0 : 1];
    *parent[stream] = pair[input ? 1 : 0];
    fcntl(*parent[stream], F_SETFL, O_NONBLOCK);
  }
}

static void open_terminal(const struct options* options, struct ends* ends) {
  int unlock = 0;
  int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
  struct winsize size = {.ws_row = options->rows, .ws_col = options->columns};
  ioctl(master, TIOCSPTLCK, &unlock);
  ioctl(master, TIOCSWINSZ, &size);
  int terminal = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  ends->parent = (struct streams){.input = master, .output = master, .error = -1};
  for (int stream = 0; stream < 3; stream++)
    ends->child[stream] = terminal;
}

/* /dev/console cannot be a controlling terminal; the serial line behind it can. */
static void open_console(struct ends* ends) {
  int console = open("/dev/ttyS0", O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (console < 0) console = open("/dev/console", O_RDWR | O_NOCTTY | O_CLOEXEC);
  ends->parent = (struct streams){-1, -1, -1};
  for (int stream = 0; stream < 3; stream++)
    ends->child[stream] = console;
}

static void run_child(const struct options* options, char* const argv[], const struct ends* ends) {
  setsid();
  for (int stream = 0; stream < 3; stream++)
    dup2(ends->child[stream], stream);
  if (options->stdio != STDIO_PIPES) ioctl(STDIN_FILENO, TIOCSCTTY, 0);
  if (chdir(options->directory) < 0 && chdir("/") < 0) _exit(CANNOT_RUN);
  become_program(argv);
}

pid_t start_command(const struct options* options, struct streams* streams) {
  static char* const shell[] = {"sh", "-i", NULL};
  char* const* argv = options->argc > 0 ? options->argv : shell;
  struct ends ends;

  if (options->stdio == STDIO_PIPES)
    open_pipes(&ends);
  else if (options->stdio == STDIO_TERMINAL)
    open_terminal(options, &ends);
  else
    open_console(&ends);

  pid_t command = vfork();
  if (command == 0) run_child(options, argv, &ends);
  for (int stream = 0; stream < 3; stream++) {
    if (stream == 0 || ends.child[stream] != ends.child[stream - 1]) close(ends.child[stream]);
  }
  *streams = ends.parent;
  return command;
}

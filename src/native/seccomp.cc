/* seccomp; see seccomp.h. */
#include "seccomp.h"

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <memory>
#include <mutex>
#include <node.h>
#include <string>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <uv.h>
#include <vector>

#include "native_error.h"

namespace estalo {

namespace {

using Filter = std::vector<struct sock_filter>;

/* Firecracker's exit status for a call that its filters do not allow. */
constexpr int kExitBadSyscall = 148;
constexpr auto kThreadPatience = std::chrono::seconds(2);

/* Written before any thread reads them, by Confine on the main thread. */
Filter vcpu_filter;
std::vector<std::string> syscall_names;
std::atomic<bool> is_confined{false};
std::atomic<int> violation_log{-1};
thread_local bool is_vcpu_confined = false;

int Install(const Filter& filter, unsigned flags) {
  struct sock_fprog program = {};
  program.len = static_cast<unsigned short>(filter.size());
  program.filter = const_cast<struct sock_filter*>(filter.data());
  long result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
  if (result < 0) return -errno;
  // The thread that has a filter of its own which is not ours.
  return result == 0 ? 0 : -ESRCH;
}

/* Signal handlers may neither allocate nor lock: the names are there already, and snprintf of plain
 * numbers and text does neither. */
void ReportViolation(int, siginfo_t* signal, void*) {
  char thread[16] = "";
  char line[160];
  auto number = static_cast<unsigned>(signal->si_syscall);
  prctl(PR_GET_NAME, thread);
  const char* name = number < syscall_names.size() ? syscall_names[number].c_str() : "unknown";
  int length =
      snprintf(line, sizeof line,
               "Shutting down VM after intercepting a bad syscall (%u, %s, in thread %s).\n",
               number, name, thread);
  int log = violation_log.load();
  ssize_t written = write(STDERR_FILENO, line, static_cast<size_t>(length));
  if (log >= 0) written = write(log, line, static_cast<size_t>(length));
  static_cast<void>(written);
  _exit(kExitBadSyscall);
}

int CatchViolations() {
  struct sigaction action = {};
  action.sa_sigaction = ReportViolation;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  return sigaction(SIGSYS, &action, nullptr) < 0 ? -errno : 0;
}

/*
 * Runs something once on each of a pool's threads: as many tasks as there are threads, none of
 * which ends before all have begun. A pool that is busy for long is not waited for; what came late
 * is done late.
 */
class OncePerThread {
public:
  OncePerThread(int threads, Filter filter) : waiting_(threads), filter_(std::move(filter)) {
  }

  void Run() {
    // A thread that comes again, because another was not waited for, has its filter.
    static thread_local bool is_done = false;
    int result = is_done ? 0 : Install(filter_, 0);
    is_done = true;
    std::unique_lock<std::mutex> lock(mutex_);
    if (result != 0) error_ = result;
    waiting_ -= 1;
    changed_.notify_all();
    changed_.wait_for(lock, kThreadPatience, [this] { return waiting_ <= 0; });
  }

  /* 0, or -errno. */
  int Await() {
    std::unique_lock<std::mutex> lock(mutex_);
    bool is_done = changed_.wait_for(lock, kThreadPatience, [this] { return waiting_ <= 0; });
    return is_done ? error_ : -ETIMEDOUT;
  }

private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int waiting_;
  int error_ = 0;
  Filter filter_;
};

using Shared = std::shared_ptr<OncePerThread>;

/* As libuv reads it: 4 threads unless the environment says otherwise, 1,024 at most. */
int PoolThreads() {
  const char* text = getenv("UV_THREADPOOL_SIZE");
  int threads = text == nullptr ? 4 : atoi(text);
  return threads < 1 ? 1 : threads > 1024 ? 1024 : threads;
}

void RunInPool(uv_work_t* work) {
  (*static_cast<Shared*>(work->data))->Run();
}

void EndInPool(uv_work_t* work, int) {
  delete static_cast<Shared*>(work->data);
  delete work;
}

int ConfinePool(napi_env env, const Filter& filter) {
  uv_loop_t* loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) return -EINVAL;
  int threads = PoolThreads();
  auto task = std::make_shared<OncePerThread>(threads, filter);
  for (int i = 0; i < threads; i++) {
    auto* work = new uv_work_t;
    work->data = new Shared(task);
    int result = uv_queue_work(loop, work, RunInPool, EndInPool);
    if (result < 0) return result;
  }
  return task->Await();
}

class PlatformTask : public v8::Task {
public:
  explicit PlatformTask(Shared task) : task_(std::move(task)) {
  }
  void Run() override {
    task_->Run();
  }

private:
  Shared task_;
};

int ConfinePlatform(const Filter& filter) {
  v8::Isolate* isolate = v8::Isolate::GetCurrent();
  node::Environment* environment = node::GetCurrentEnvironment(isolate->GetCurrentContext());
  node::MultiIsolatePlatform* platform = node::GetMultiIsolatePlatform(environment);
  // Node.js counts the one that waits for delayed tasks, too, which runs none itself.
  int threads = platform == nullptr ? 0 : platform->NumberOfWorkerThreads() - 1;
  if (threads <= 0) return 0;
  auto task = std::make_shared<OncePerThread>(threads, filter);
  for (int i = 0; i < threads; i++) {
    platform->CallOnWorkerThread(std::make_unique<PlatformTask>(task));
  }
  return task->Await();
}

Filter FilterFrom(const Napi::Value& value) {
  auto bytes = value.As<Napi::Uint8Array>();
  Filter filter(bytes.ByteLength() / sizeof(struct sock_filter));
  memcpy(filter.data(), bytes.Data(), filter.size() * sizeof(struct sock_filter));
  return filter;
}

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  size_t start = 0;
  for (size_t end; (end = text.find('\n', start)) != std::string::npos; start = end + 1) {
    lines.push_back(text.substr(start, end - start));
  }
  return lines;
}

} // namespace

void Confine(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (is_confined.load()) {
    ThrowBug(env, "the process has its filters already");
    return;
  }
  Filter process = FilterFrom(info[0]);
  vcpu_filter = FilterFrom(info[1]);
  syscall_names = Lines(info[4].As<Napi::String>().Utf8Value());
  if (!Succeeded(env, "sigaction SIGSYS", CatchViolations())) return;
  int result = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
  if (!Succeeded(env, "no_new_privs", result)) return;
  // First the one for all: a thread with another filter could not get it any more.
  if (!Succeeded(env, "seccomp", Install(process, SECCOMP_FILTER_FLAG_TSYNC))) return;
  is_confined.store(true);
  if (!Succeeded(env, "seccomp for libuv's threads", ConfinePool(env, FilterFrom(info[2])))) return;
  Succeeded(env, "seccomp for V8's threads", ConfinePlatform(FilterFrom(info[3])));
}

void SetViolationLog(const Napi::CallbackInfo& info) {
  violation_log.store(info[0].As<Napi::Number>().Int32Value());
}

int ConfineVcpuThread() {
  if (!is_confined.load() || is_vcpu_confined) return 0;
  is_vcpu_confined = true;
  return Install(vcpu_filter, 0);
}

} // namespace estalo

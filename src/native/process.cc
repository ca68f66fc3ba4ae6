/* This process; see process.h. */
#include "process.h"

#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <link.h>
#include <string>
#include <unistd.h>
#include <vector>

#include "native_error.h"

namespace estalo {

namespace {

std::vector<std::string> Strings(const Napi::Value& value) {
  Napi::Array array = value.As<Napi::Array>();
  std::vector<std::string> strings;
  for (uint32_t i = 0; i < array.Length(); i++) {
    strings.push_back(array.Get(i).As<Napi::String>().Utf8Value());
  }
  return strings;
}

std::vector<int> Numbers(const Napi::Value& value) {
  Napi::Array array = value.As<Napi::Array>();
  std::vector<int> numbers;
  for (uint32_t i = 0; i < array.Length(); i++) {
    numbers.push_back(array.Get(i).As<Napi::Number>().Int32Value());
  }
  return numbers;
}

/* As execve takes them; they live as long as `strings`. */
std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& string : strings)
    pointers.push_back(string.data());
  pointers.push_back(nullptr);
  return pointers;
}

int CollectObject(struct dl_phdr_info* object, size_t, void* paths) {
  // The program itself has no name, and the kernel's part no path.
  std::string path = object->dlpi_name == nullptr ? "" : object->dlpi_name;
  if (!path.empty() && path[0] == '/')
    static_cast<std::vector<std::string>*>(paths)->push_back(path);
  return 0;
}

} // namespace

void Execute(const Napi::CallbackInfo& info) {
  std::string file = info[0].As<Napi::String>().Utf8Value();
  std::vector<std::string> words = Strings(info[1]);
  std::vector<std::string> environment = Strings(info[2]);
  std::vector<char*> word_pointers = Pointers(words);
  std::vector<char*> environment_pointers = Pointers(environment);
  std::vector<int> kept = Numbers(info[3]);
  // Node.js ignores it, and what is ignored stays so; what is blocked as well.
  signal(SIGPIPE, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  pthread_sigmask(SIG_SETMASK, &none, nullptr);
  // Node.js lets no program that it starts have its standard streams by themselves.
  for (int stream = 0; stream < 3; stream++)
    fcntl(stream, F_SETFD, 0);
  for (int descriptor : kept)
    fcntl(descriptor, F_SETFD, 0);
  execve(file.c_str(), word_pointers.data(), environment_pointers.data());
  ThrowErrno(info.Env(), "execve", errno);
}

Napi::Value SharedObjects(const Napi::CallbackInfo& info) {
  std::vector<std::string> paths;
  dl_iterate_phdr(CollectObject, &paths);
  Napi::Array array = Napi::Array::New(info.Env(), paths.size());
  for (size_t i = 0; i < paths.size(); i++) {
    array.Set(static_cast<uint32_t>(i), Napi::String::New(info.Env(), paths[i]));
  }
  return array;
}

} // namespace estalo

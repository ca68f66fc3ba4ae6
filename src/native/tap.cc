/* Taps; see tap.h. */
#include "tap.h"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "native_error.h"

namespace estalo {

namespace {

constexpr int kHeaderBytes = 12;
constexpr size_t kFrameBytesMax = 65562;

/*
 * Whether somebody has a queue of the interface: its link is up then. The kernel lets several have
 * one of a tap with several queues. Known only while the interface is up.
 */
bool HasLink(const struct ifreq& named) {
  FileDescriptor socket_fd;
  socket_fd.Reset(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  struct ethtool_value link = {ETHTOOL_GLINK, 0};
  struct ifreq request = named;
  request.ifr_data = reinterpret_cast<char*>(&link);
  return socket_fd.open() && ioctl(socket_fd.get(), SIOCETHTOOL, &request) == 0 && link.data != 0;
}

int OpenTap(const std::string& name, TapQueue queue, FileDescriptor* tap) {
  struct ifreq request = {};
  if (name.empty() || name.size() >= sizeof(request.ifr_name)) return -ENAMETOOLONG;
  // TUNSETIFF would make an interface that is not there, and leave it to nobody to configure.
  if (if_nametoindex(name.c_str()) == 0) return -ENODEV;
  tap->Reset(open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!tap->open()) return -errno;
  memcpy(request.ifr_name, name.c_str(), name.size());
  if (queue == TapQueue::kFirst && HasLink(request)) return -EBUSY;
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  if (queue != TapQueue::kOnly) request.ifr_flags |= IFF_MULTI_QUEUE;
  if (ioctl(tap->get(), TUNSETIFF, &request) < 0) return -errno;
  int header = kHeaderBytes;
  if (ioctl(tap->get(), TUNSETVNETHDRSZ, &header) < 0) return -errno;
  return 0;
}

} // namespace

void EndTapWithDescriptor(const Napi::CallbackInfo& info) {
  int result = ioctl(info[0].As<Napi::Number>().Int32Value(), TUNSETPERSIST, 0);
  Succeeded(info.Env(), "TUNSETPERSIST", result < 0 ? -errno : 0);
}

Napi::Function Tap::Define(Napi::Env env) {
  return DefineClass(
      env, "Tap",
      {InstanceAccessor<&Tap::Fd>("fd"), InstanceMethod<&Tap::Connect>("connect"),
       InstanceMethod<&Tap::SetOffloads>("setOffloads"),
       InstanceMethod<&Tap::SetAttached>("setAttached"), InstanceMethod<&Tap::Send>("send"),
       InstanceMethod<&Tap::Receive>("receive"), InstanceMethod<&Tap::SendBytes>("sendBytes"),
       InstanceMethod<&Tap::ReceiveBytes>("receiveBytes"), InstanceMethod<&Tap::Release>("release"),
       InstanceMethod<&Tap::Close>("close")});
}

Tap::Tap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Tap>(info) {
  status_ = Napi::Persistent(info[1].As<Napi::Int32Array>());
  segments_.reserve(IOV_MAX);
  overflow_.resize(kFrameBytesMax);
  if (status_.Value().ElementLength() < 2) {
    ThrowBug(info.Env(), "status holds two numbers");
    return;
  }
  int result = 0;
  if (info[0].IsNumber()) {
    fd_.Reset(info[0].As<Napi::Number>().Int32Value());
  } else {
    auto queue = static_cast<TapQueue>(info[2].As<Napi::Number>().Int32Value());
    result = OpenTap(info[0].As<Napi::String>().Utf8Value(), queue, &fd_);
  }
  if (result < 0) fd_.Close();
  Succeeded(info.Env(), "open tap", result);
}

Napi::Value Tap::Fd(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), fd_.get());
}

void Tap::Connect(const Napi::CallbackInfo& info) {
  memory_ = GuestMappingObject::Unwrap(info[0].As<Napi::Object>())->mapping();
}

void Tap::SetOffloads(const Napi::CallbackInfo& info) {
  unsigned long flags = info[0].As<Napi::Number>().Uint32Value();
  int result = ioctl(fd_.get(), TUNSETOFFLOAD, flags);
  Succeeded(info.Env(), "TUNSETOFFLOAD", result < 0 ? -errno : 0);
}

void Tap::SetAttached(const Napi::CallbackInfo& info) {
  struct ifreq request = {};
  bool attach = info[0].As<Napi::Boolean>().Value();
  request.ifr_flags = attach ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE;
  int result = ioctl(fd_.get(), TUNSETQUEUE, &request);
  Succeeded(info.Env(), "TUNSETQUEUE", result < 0 ? -errno : 0);
}

Napi::Value Tap::Release(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), fd_.Release());
}

void Tap::Close(const Napi::CallbackInfo&) {
  fd_.Close();
  memory_.reset();
}

bool Tap::Read(const Napi::CallbackInfo& info, Chains* chains) const {
  auto addresses = info[0].As<Napi::Float64Array>();
  auto lengths = info[1].As<Napi::Uint32Array>();
  auto ends = info[2].As<Napi::Uint32Array>();
  chains->addresses = addresses.Data();
  chains->lengths = lengths.Data();
  chains->ends = ends.Data();
  chains->first = info[3].As<Napi::Number>().Uint32Value();
  chains->end = info[4].As<Napi::Number>().Uint32Value();
  size_t segments = std::min(addresses.ElementLength(), lengths.ElementLength());
  bool ordered = chains->first <= chains->end && chains->end <= ends.ElementLength();
  if (ordered && fd_.open() && memory_ != nullptr &&
      (chains->end == 0 || chains->ends[chains->end - 1] <= segments)) {
    return true;
  }
  ThrowBug(info.Env(), "the tap is closed, or the table ends before its chains");
  return false;
}

bool Tap::AddSegments(const Chains& chains, uint32_t chain) {
  uint32_t first = chain == 0 ? 0 : chains.ends[chain - 1];
  for (uint32_t i = first; i < chains.ends[chain]; i++) {
    auto gpa = static_cast<uint64_t>(chains.addresses[i]);
    void* address = memory_->HostAddress(gpa, chains.lengths[i]);
    // One is kept for the overflow.
    if (address == nullptr || segments_.size() + 1 >= IOV_MAX) return false;
    segments_.push_back({address, chains.lengths[i]});
  }
  return true;
}

/* Notes a failed call; false: it failed only because it would have had to wait. */
bool Tap::IsLost(int error) {
  if (error == EAGAIN) return false;
  int32_t* status = status_.Value().Data();
  status[0] += 1;
  status[1] = error;
  return true;
}

void Tap::ClearStatus() {
  int32_t* status = status_.Value().Data();
  status[0] = 0;
  status[1] = 0;
}

Napi::Value Tap::Send(const Napi::CallbackInfo& info) {
  Chains chains;
  if (!Read(info, &chains)) return {};
  ClearStatus();
  uint32_t chain = chains.first;
  for (; chain < chains.end; chain++) {
    segments_.clear();
    ssize_t sent = -1;
    errno = EFAULT;
    if (AddSegments(chains, chain)) {
      sent = writev(fd_.get(), segments_.data(), static_cast<int>(segments_.size()));
    }
    if (sent < 0 && !IsLost(errno)) break;
  }
  return Napi::Number::New(info.Env(), chain - chains.first);
}

Napi::Value Tap::Receive(const Napi::CallbackInfo& info) {
  Chains chains;
  if (!Read(info, &chains)) return {};
  ClearStatus();
  bool mergeable = info[5].As<Napi::Boolean>().Value();
  auto frame_bytes = info[6].As<Napi::Uint32Array>();
  auto frame_buffers = info[7].As<Napi::Uint16Array>();
  size_t most = std::min(frame_bytes.ElementLength(), frame_buffers.ElementLength());
  uint32_t chain = chains.first;
  size_t frames = 0;
  // Frames that do not fit are bounded too: whoever floods the tap gets no more than its turn.
  size_t lost = 0;
  // There was room for every frame: none is lost for lack of buffers that others have taken.
  bool roomy = false;
  while (frames + lost < most && chain < chains.end) {
    segments_.clear();
    size_t room = 0;
    uint32_t last = chain;
    while (last < chains.end && room < kFrameBytesMax && AddSegments(chains, last)) {
      for (uint32_t i = last == 0 ? 0 : chains.ends[last - 1]; i < chains.ends[last]; i++)
        room += chains.lengths[i];
      last++;
      if (!mergeable) break;
    }
    if (last == chain) {
      // The guest may have unplugged what it lies in: its mistake, for the caller to name.
      IsLost(EFAULT);
      break;
    }
    if (roomy && room < kFrameBytesMax) break;
    roomy = mergeable && room >= kFrameBytesMax;
    segments_.push_back({overflow_.data(), overflow_.size()});
    ssize_t got = readv(fd_.get(), segments_.data(), static_cast<int>(segments_.size()));
    if (got < 0) {
      // A tap that cannot be read now cannot be read again at once.
      IsLost(errno);
      break;
    }
    auto bytes = static_cast<size_t>(got);
    if (bytes > room) {
      IsLost(EMSGSIZE);
      lost++;
      continue;
    }
    uint32_t first = chain;
    for (size_t held = 0; held < bytes; chain++) {
      for (uint32_t i = chain == 0 ? 0 : chains.ends[chain - 1]; i < chains.ends[chain]; i++)
        held += chains.lengths[i];
    }
    frame_bytes.Data()[frames] = static_cast<uint32_t>(bytes);
    frame_buffers.Data()[frames] = static_cast<uint16_t>(chain - first);
    frames++;
  }
  return Napi::Number::New(info.Env(), static_cast<double>(frames));
}

Napi::Value Tap::SendBytes(const Napi::CallbackInfo& info) {
  ClearStatus();
  auto frame = info[0].As<Napi::Uint8Array>();
  bool done = write(fd_.get(), frame.Data(), frame.ByteLength()) >= 0 || IsLost(errno);
  return Napi::Boolean::New(info.Env(), done);
}

Napi::Value Tap::ReceiveBytes(const Napi::CallbackInfo& info) {
  ClearStatus();
  auto frame = info[0].As<Napi::Uint8Array>();
  ssize_t bytes = read(fd_.get(), frame.Data(), frame.ByteLength());
  if (bytes < 0) IsLost(errno);
  return Napi::Number::New(info.Env(), static_cast<double>(bytes < 0 ? 0 : bytes));
}

} // namespace estalo

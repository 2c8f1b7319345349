#include "pool.h"

#include <algorithm>
#include <chrono>
#include <system_error>
#include <thread>
#include <vector>

#if defined(_WIN32)
#include <process.h>
#else
#include <unistd.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace camelid {
namespace {

// Between two operations of a step lie some ten microseconds of Python: workers stay awake that long and then sleep.
constexpr auto kSpin = std::chrono::microseconds(100);
constexpr int kLooksPerClock = 32;

int64_t process_id() {
#if defined(_WIN32)
    return _getpid();
#else
    return getpid();
#endif
}

void relax() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Look for a while, without a system call, whether `ready()`.
template <class Ready>
bool spin_until(Ready ready) {
    const auto end = std::chrono::steady_clock::now() + kSpin;
    do {
        for (int i = 0; i < kLooksPerClock; ++i) {
            if (ready()) return true;
            relax();
        }
    } while (std::chrono::steady_clock::now() < end);
    return ready();
}

// Round to nearest and keep subnormals, whatever another library has set on this thread.
class FloatEnvironment {
public:
#if defined(__x86_64__)
    FloatEnvironment() : saved_(_mm_getcsr()) { _mm_setcsr(0x1f80); }
    ~FloatEnvironment() { _mm_setcsr(saved_); }

private:
    unsigned saved_;
#endif
};

}  // namespace

// The gate says which job is on and how many workers are inside it: workers enter only an open gate, and the caller leaves when it has
// shut it and nobody is inside. So a worker that sleeps, or that the system has taken off its core, is never waited for.
struct Pool::Crew {
    static constexpr uint64_t kOpen = 1ull << 31, kInside = kOpen - 1, kJob = 1ull << 32;

    std::atomic<uint64_t> gate{0};      // job number, open bit, workers inside
    std::atomic<uint32_t> bell{0};      // rings for every job, and to leave
    std::atomic<bool> leaving{false};
    std::atomic<uint32_t> exits{0};     // rings when the last worker leaves a shut gate
    // Each worker begins with a stretch of its own, so that what it reads lies together, and then helps out with the others'.
    struct alignas(64) Stretch {
        std::atomic<int64_t> next{0};
        int64_t end = 0;
    };
    std::vector<Stretch> stretches;
    int64_t chunk = 1;
    const Work* work = nullptr;
    std::vector<std::thread> threads;

    explicit Crew(int workers) : stretches(static_cast<size_t>(workers) + 1) {
        try {
            for (int i = 1; i <= workers; ++i) threads.emplace_back([this, i] { serve(i); });
        } catch (const std::system_error&) {
            // The system grants no more threads: those that there are do the work.
        }
    }

    ~Crew() {
        leaving.store(true);
        bell.fetch_add(1);
        bell.notify_all();
        for (auto& thread : threads) thread.join();
    }

    void share(int worker) {
        const FloatEnvironment environment;
        const size_t count = stretches.size();
        for (size_t i = 0; i < count; ++i) {
            Stretch& stretch = stretches[(static_cast<size_t>(worker) + i) % count];
            for (int64_t begin; (begin = stretch.next.fetch_add(chunk)) < stretch.end;) (*work)(begin, std::min(begin + chunk, stretch.end), worker);
        }
    }

    void serve(int worker) {
        uint64_t done = 0;  // the last job that this worker was in
        for (uint32_t heard = 0; !leaving.load();) {
            uint64_t now = gate.load();
            if ((now & kOpen) && now / kJob != done) {
                if (!gate.compare_exchange_weak(now, now + 1)) continue;
                done = now / kJob;
                share(worker);
                if ((gate.fetch_sub(1) & (kOpen | kInside)) == 1) {
                    exits.fetch_add(1);
                    exits.notify_all();
                }
                continue;
            }
            if (!spin_until([&] { return bell.load(std::memory_order_acquire) != heard; })) bell.wait(heard);
            heard = bell.load();
        }
    }

    void run(int64_t count, int64_t step, const Work& job) {
        const int64_t workers = static_cast<int64_t>(stretches.size()), chunks = (count + step - 1) / step;
        for (int64_t i = 0; i < workers; ++i) {
            stretches[static_cast<size_t>(i)].next.store(chunks * i / workers * step);
            stretches[static_cast<size_t>(i)].end = std::min(count, chunks * (i + 1) / workers * step);
        }
        chunk = step;
        work = &job;
        gate.store(gate.load() / kJob * kJob + kJob + kOpen);
        bell.fetch_add(1);
        bell.notify_all();
        share(0);
        gate.fetch_and(~kOpen);
        if (spin_until([&] { return (gate.load() & kInside) == 0; })) return;
        for (uint32_t seen = exits.load(); gate.load() & kInside; seen = exits.load()) exits.wait(seen);
    }
};

Pool::Pool(int threads) : threads_(threads) {}

Pool::~Pool() {
    if (owner_ != process_id()) (void)crew_.release();  // a forked child has no such threads to join
}

void Pool::man() {
    if (crew_ && owner_ == process_id()) return;
    (void)crew_.release();
    crew_ = std::make_unique<Crew>(threads_ - 1);
    owner_ = process_id();
}

void Pool::run(int64_t items, int64_t chunk, const Work& work) {
    if (items <= 0) return;
    if (threads_ == 1 || items <= chunk) {
        const FloatEnvironment environment;
        return work(0, items, 0);
    }
    const std::lock_guard<std::mutex> lock(turn_);
    man();
    crew_->run(items, chunk, work);
}

}  // namespace camelid

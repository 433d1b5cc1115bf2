#include <algorithm>

#include "internal.h"

namespace {

struct Products {
  const int8_t* vectors;
  const int64_t* first;
  const int16_t* directions;
  int64_t dims, groups, count;
  int32_t* best;
};

ZS_INLINE int32_t product(const int8_t* vector, const int16_t* direction, int64_t dims) {
  int32_t sum = 0;
  for (int64_t j = 0; j < dims; ++j) {
    const int16_t value = vector[j];  // 16 bits first: processors multiply and add pairs of those at once
    sum += static_cast<int32_t>(value) * static_cast<int32_t>(direction[j]);
  }
  return sum;
}

ZS_CLONES void products_of(const Products& p, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i)
    for (int64_t n = 0; n < p.count; ++n) {
      int32_t best = INT32_MIN;
      for (int64_t v = p.first[i]; v < p.first[i + 1]; ++v)
        best = std::max(best, product(p.vectors + v * p.dims, p.directions + n * p.dims, p.dims));
      p.best[n * p.groups + i] = best;
    }
}

}  // namespace

int32_t zs_best_products(const int8_t* vectors, int64_t vector_count, int64_t dims, const int64_t* first,
                         int64_t groups, const int16_t* directions, int64_t direction_count, int32_t* best,
                         int32_t threads) {
  return zs::guarded([&] {
    zs::check(vectors && first && directions && best, "zs_best_products: null array");
    zs::check(vector_count >= 0 && dims >= 0 && groups >= 0 && direction_count >= 0,
              "zs_best_products: sizes must not be negative");
    zs::check(first[0] >= 0 && first[groups] <= vector_count, "zs_best_products: a group outside the vectors");
    for (int64_t i = 0; i < groups; ++i)
      zs::check(first[i] < first[i + 1], "zs_best_products: an empty group");
    const Products products = {vectors, first, directions, dims, groups, direction_count, best};
    zs::over_rows(groups, 2048, threads, [&](int64_t begin, int64_t end) { products_of(products, begin, end); });
  });
}

import org.opencv.core.CvType
import org.opencv.core.Mat
import org.opencv.core.MatOfByte
import org.opencv.core.Rect
import org.opencv.core.Size
import org.opencv.imgcodecs.Imgcodecs
import org.opencv.imgproc.Imgproc
import kotlin.math.max
import kotlin.math.min

/** Preprocessing settings of the manifest. */
data class Settings(
    val working: Int = 64,
    val side: Int = 224,
    val margin: Double = 0.05,
    val equalize: Boolean = true
)

/** Columns x0..x1-1 and rows y0..y1-1 of the radiograph. */
data class Box(val x0: Int, val y0: Int, val x1: Int, val y1: Int)

/** Greys in 0..1, row by row. */
class Grey(val width: Int, val height: Int, val values: FloatArray)

private const val SURE = 0.5f
private const val SMALLEST = 0.012
private const val LEAST_CONFIDENCE = 0.85

private fun roundHalfEven(value: Double): Int = Math.rint(value).toInt()

private fun Mat.floats(): FloatArray = FloatArray(rows() * cols()).also { get(0, 0, it) }

private fun squash(pixels: Mat, side: Int): Mat {
    val shrinks = min(pixels.rows(), pixels.cols()) > side
    val method = if (shrinks) Imgproc.INTER_AREA else Imgproc.INTER_LINEAR
    return Mat().also { Imgproc.resize(pixels, it, Size(side.toDouble(), side.toDouble()), 0.0, 0.0, method) }
}

/** Step 1. */
fun decode(file: ByteArray): Grey {
    val flags = Imgcodecs.IMREAD_GRAYSCALE or Imgcodecs.IMREAD_ANYDEPTH
    val pixels = Imgcodecs.imdecode(MatOfByte(*file), flags)
    require(!pixels.empty()) { "not a readable PNG or JPEG" }
    val full = when (pixels.depth()) {
        CvType.CV_8U -> 255f
        CvType.CV_16U -> 65535f
        else -> throw IllegalArgumentException("only grey values of 8 or 16 bits are supported")
    }
    val whole = Mat().also { pixels.convertTo(it, CvType.CV_32F) }
    val values = whole.floats()
    for (i in values.indices) values[i] = values[i] / full
    return Grey(pixels.cols(), pixels.rows(), values)
}

/** Step 2. */
fun workingImage(grey: Grey, settings: Settings): FloatArray {
    val whole = Mat(grey.height, grey.width, CvType.CV_32F).also { it.put(0, 0, grey.values) }
    val small = squash(whole, settings.working).floats()
    val sorted = small.sortedArray()
    fun percentile(share: Double): Double {
        val at = (sorted.size - 1) * share
        val below = sorted[at.toInt()].toDouble()
        val above = sorted[min(at.toInt() + 1, sorted.size - 1)].toDouble()
        return below + (above - below) * (at - at.toInt())
    }
    var low = percentile(0.01)
    var high = percentile(0.99)
    if (high <= low) {  // nearly everything is one grey
        low = sorted.first().toDouble()
        high = sorted.last().toDouble()
    }
    val range = max(high - low, 1e-6).toFloat()
    return FloatArray(small.size) { min(max((small[it] - low.toFloat()) / range, 0f), 1f) }
}

/** Steps 4 and 5; null if there is no hand. */
fun findHand(certainty: FloatArray, grey: Grey, settings: Settings): Box? {
    val size = settings.working
    val sure = Mat(size, size, CvType.CV_8U)
    sure.put(0, 0, ByteArray(certainty.size) { if (certainty[it] >= SURE) 1 else 0 })
    val labels = Mat()
    val count = Imgproc.connectedComponents(sure, labels, 8, CvType.CV_32S)
    val regions = IntArray(certainty.size).also { labels.get(0, 0, it) }
    var best = 0
    var bestSum = 0.0
    for (region in 1 until count) {
        val inside = regions.indices.filter { regions[it] == region }
        val sum = inside.map { certainty[it].toDouble() }.sum()
        if (inside.size < SMALLEST * certainty.size || sum / inside.size < LEAST_CONFIDENCE) continue
        if (sum > bestSum) {
            best = region
            bestSum = sum
        }
    }
    if (best == 0) return null
    // The region and its neighbours: their certainty places the edge between pixels.
    val columns = FloatArray(size)
    val rows = FloatArray(size)
    for (y in 0 until size) for (x in 0 until size) {
        val near = (-1..1).any { dy ->
            (-1..1).any { dx ->
                val column = x + dx
                val row = y + dy
                column in 0 until size && row in 0 until size && regions[row * size + column] == best
            }
        }
        if (!near) continue
        columns[x] = max(columns[x], certainty[y * size + x])
        rows[y] = max(rows[y], certainty[y * size + x])
    }
    fun pixels(edge: Double, side: Int) = roundHalfEven(edge * side / size)
    val x0 = min(pixels(crossing(columns), grey.width), grey.width - 1)
    val y0 = min(pixels(crossing(rows), grey.height), grey.height - 1)
    val x1 = min(pixels(size - crossing(columns.reversedArray()), grey.width), grey.width)
    val y1 = min(pixels(size - crossing(rows.reversedArray()), grey.height), grey.height)
    return Box(x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))
}

/** Position where a profile first rises to SURE; pixel i has its middle at i + 0.5. */
private fun crossing(profile: FloatArray): Double {
    val first = profile.indexOfFirst { it >= SURE }
    if (first == 0) return 0.0
    val before = profile[first - 1].toDouble()
    val after = profile[first].toDouble()
    return first - 0.5 + (SURE - before) / (after - before)
}

/** Steps 6 to 8; the whole image where box is null. */
fun crop(grey: Grey, box: Box?, settings: Settings): FloatArray {
    val found = box ?: Box(0, 0, grey.width, grey.height)
    val margin = if (box == null) 0.0 else settings.margin
    val dx = roundHalfEven((found.x1 - found.x0) * margin)
    val dy = roundHalfEven((found.y1 - found.y0) * margin)
    val x0 = max(found.x0 - dx, 0)
    val y0 = max(found.y0 - dy, 0)
    val width = min(found.x1 + dx, grey.width) - x0
    val height = min(found.y1 + dy, grey.height) - y0
    val inside = FloatArray(width * height) {
        grey.values[(y0 + it / width) * grey.width + x0 + it % width]
    }
    var low = inside[0]
    var high = inside[0]
    for (value in inside) {
        low = min(low, value)
        high = max(high, value)
    }
    val scale = (255 / max(high.toDouble() - low, 1e-6)).toFloat()
    val bytes = Mat(height, width, CvType.CV_8U)
    bytes.put(0, 0, ByteArray(inside.size) { Math.rint(((inside[it] - low) * scale).toDouble()).toInt().toByte() })
    if (settings.equalize) Imgproc.equalizeHist(bytes, bytes)
    val small = squash(bytes, settings.side)
    val result = ByteArray(settings.side * settings.side).also { small.get(0, 0, it) }
    return FloatArray(result.size) { (result[it].toInt() and 0xff) / 255f }
}

import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession
import java.nio.FloatBuffer
import java.security.MessageDigest
import kotlin.math.abs

/** An age, and the box of the hand; null if none was found. */
data class Prediction(val ageMonths: Float, val box: Box?)

/** Return a file after comparing its SHA-256 with the manifest's. */
fun checked(file: ByteArray, sha256: String): ByteArray {
    val digest = MessageDigest.getInstance("SHA-256").digest(file)
    val hex = digest.joinToString("") { "%02x".format(it) }
    check(hex == sha256) { "the file was changed since its export (SHA-256 differs)" }
    return file
}

/** Both models, open. Use it from one thread at a time. */
class BoneAge(
    localizer: ByteArray,
    regressor: ByteArray,
    private val settings: Settings,
    threads: Int = 2
) : AutoCloseable {
    private val environment = OrtEnvironment.getEnvironment()
    private val options = OrtSession.SessionOptions().apply { setIntraOpNumThreads(threads) }
    private val localizer = environment.createSession(localizer, options)
    private val regressor = environment.createSession(regressor, options)

    fun predict(file: ByteArray, male: Boolean): Prediction {
        val grey = decode(file)
        val box = findHand(certainty(workingImage(grey, settings)), grey, settings)
        return Prediction(age(crop(grey, box, settings), male), box)
    }

    /** Step 3. */
    fun certainty(working: FloatArray): FloatArray =
        tensor(working, settings.working).use { image ->
            localizer.run(mapOf("image" to image)).use { found ->
                @Suppress("UNCHECKED_CAST")
                val rows = found[0].value as Array<FloatArray>
                FloatArray(working.size) { rows[it / settings.working][it % settings.working] }
            }
        }

    /** Step 9. */
    fun age(crop: FloatArray, male: Boolean): Float =
        tensor(crop, settings.side).use { image ->
            val flag = FloatBuffer.wrap(floatArrayOf(if (male) 1f else 0f))
            OnnxTensor.createTensor(environment, flag, longArrayOf(1, 1)).use { sex ->
                regressor.run(mapOf("image" to image, "sex" to sex)).use { found ->
                    @Suppress("UNCHECKED_CAST")
                    (found[0].value as Array<FloatArray>)[0][0]
                }
            }
        }

    /** How far the age of a golden image is from that of the export, in months. */
    fun change(golden: ByteArray, male: Boolean, box: Box?, expected: Float): Float =
        abs(age(crop(decode(golden), box, settings), male) - expected)

    private fun tensor(values: FloatArray, side: Int): OnnxTensor {
        val shape = longArrayOf(1, 1, side.toLong(), side.toLong())
        return OnnxTensor.createTensor(environment, FloatBuffer.wrap(values), shape)
    }

    override fun close() {
        localizer.close()
        regressor.close()
        options.close()
    }
}

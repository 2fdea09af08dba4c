import ai.onnxruntime.OnnxJavaType
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession
import android.graphics.BitmapFactory
import java.nio.ByteBuffer
import java.nio.FloatBuffer

class BoneAge(model: ByteArray) : AutoCloseable {
    private val environment = OrtEnvironment.getEnvironment()
    private val session: OrtSession = environment.createSession(model)

    /** The bone age in months; null without a hand. */
    fun months(file: ByteArray, male: Boolean): Float? {
        val bitmap = requireNotNull(BitmapFactory.decodeByteArray(file, 0, file.size)) { "not a PNG or JPEG" }
        val colours = IntArray(bitmap.width * bitmap.height)
        bitmap.getPixels(colours, 0, bitmap.width, 0, 0, bitmap.width, bitmap.height)
        val grey = ByteBuffer.allocateDirect(colours.size)
        for (colour in colours) grey.put((colour and 0xff).toByte())
        grey.rewind()
        val shape = longArrayOf(bitmap.height.toLong(), bitmap.width.toLong())
        val flag = FloatBuffer.wrap(floatArrayOf(if (male) 1f else 0f))
        OnnxTensor.createTensor(environment, grey, shape, OnnxJavaType.UINT8).use { film ->
            OnnxTensor.createTensor(environment, flag, longArrayOf(1, 1)).use { sex ->
                session.run(mapOf("film" to film, "sex" to sex)).use { found ->
                    val sure = found["hand_confidence"].get().value as FloatArray
                    val ages = found["age_months"].get().value as Array<FloatArray>
                    return if (sure[0] > 0f) ages[0][0] else null
                }
            }
        }
    }

    override fun close() = session.close()
}

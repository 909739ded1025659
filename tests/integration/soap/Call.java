import jakarta.xml.ws.BindingProvider;
import java.math.BigDecimal;
import javax.xml.datatype.DatatypeFactory;
import javax.xml.datatype.XMLGregorianCalendar;
import partner.ArrayOfInvoice;
import partner.CloudInvoicing;
import partner.CloudInvoicingPort;
import partner.Customer;
import partner.Invoice;
import partner.InvoiceResult;
import partner.UploadInvoiceReq;
import partner.UploadInvoiceResult;
import partner.ViewInvoiceReq;
import partner.ViewInvoiceResult;

/** Uploads an invoice and looks at it; one `name=value` a line of what was answered. */
public class Call {
    public static void main(String[] arguments) throws Exception {
        String wsdl = arguments[0], guid = arguments[1], number = arguments[2];
        String key = System.getenv("WEB_SERVICE_KEY");
        CloudInvoicingPort port = new CloudInvoicing(new java.net.URL(wsdl)).getCloudInvoicingSoap();
        System.out.println("address=" + ((BindingProvider) port).getRequestContext()
                .get(BindingProvider.ENDPOINT_ADDRESS_PROPERTY));

        UploadInvoiceReq upload = new UploadInvoiceReq();
        upload.setBillerGUID(guid);
        upload.setWebServiceKey(key);
        upload.setInvoices(new ArrayOfInvoice());
        upload.getInvoices().getInvoice().add(invoice(number));
        UploadInvoiceResult uploaded = port.uploadInvoice(upload);
        System.out.println("uploaded=" + uploaded.isSuccess());
        for (InvoiceResult each : uploaded.getResults().getInvoiceResult()) {
            System.out.println("reference=" + each.getReference());
        }

        ViewInvoiceReq view = new ViewInvoiceReq();
        view.setBillerGUID(guid);
        view.setWebServiceKey(key);
        view.setInvoiceNumber(number);
        ViewInvoiceResult shown = port.viewInvoiceByInvoiceNumber(view);
        System.out.println("shown=" + shown.isSuccess());
        System.out.println("shown_reference=" + shown.getReference());
        System.out.println("balance=" + shown.getInvoice().getBalanceDue());
        System.out.println("due=" + shown.getInvoice().getInvoiceDueDate());
        System.out.println("collected=" + shown.getInvoice().getAutoPayCollectionDate());
        System.out.println("account=" + shown.getInvoice().getCustomer().getAccountNumber());
        System.out.println("name=" + shown.getInvoice().getCustomer().getCustomerName());
        System.out.println("paper=" + shown.getInvoice().getCustomer().isPaperInvoices());

        view.setWebServiceKey("wrong");
        try {
            port.viewInvoiceByInvoiceNumber(view);
        } catch (jakarta.xml.ws.soap.SOAPFaultException fault) {
            System.out.println("fault=" + fault.getFault().getFaultString());
        }
    }

    private static Invoice invoice(String number) throws Exception {
        Customer customer = new Customer();
        customer.setAccountNumber("0000001001");
        customer.setCustomerName("Zoë O'<Hara> & Sons");
        customer.setAutoPay(true);
        customer.setPaperInvoices(false);
        customer.setBlockPaymentsCC(false);
        customer.setBlockPaymentsEFT(false);

        XMLGregorianCalendar empty = date("0001-01-01");
        Invoice invoice = new Invoice();
        invoice.setInvoiceNumber(number);
        invoice.setInvoiceTypeID("101");
        invoice.setInvoiceDate(date("2026-11-01"));
        invoice.setInvoiceDueDate(date("2026-12-01"));
        invoice.setAutoPayCollectionDate(empty);
        invoice.setTotalAmountDue(new BigDecimal("120.50"));
        invoice.setBalanceDue(new BigDecimal("120.50"));
        invoice.setMinimumAmountDue(new BigDecimal("20.00"));
        invoice.setAllowPartialPayments(false);
        invoice.setFirstNotifyRequestedDate(empty);
        invoice.setSecondNotifyRequestedDate(empty);
        invoice.setThirdNotifyRequestedDate(empty);
        invoice.setCustomer(customer);
        return invoice;
    }

    private static XMLGregorianCalendar date(String day) throws Exception {
        return DatatypeFactory.newInstance().newXMLGregorianCalendar(day);
    }
}
